import { spawn } from "node:child_process";

/** Opens an address in the system's browser, if there is one; whoever sees nothing opens the address that was printed. */
export function openBrowser(url: string): void {
  const [file, ...args] =
    process.platform === "darwin"
      ? ["open", url]
      : process.platform === "win32"
        ? ["rundll32", "url.dll,FileProtocolHandler", url]
        : ["xdg-open", url];
  const child = spawn(file as string, args, { stdio: "ignore", detached: true });
  child.on("error", () => {});
  child.unref();
}
