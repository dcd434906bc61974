import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { IssuerPath, MintRequest } from "./issuer-process.ts";

/** The running issuer process. */
export interface DemoIssuer {
  readonly url: string;
  readonly pid: number;
  /** A token with these claims. */
  mint(issuer: IssuerPath, claims: MintRequest["claims"]): Promise<string>;
  stop(): Promise<void>;
}

/** Starts the issuer in a process of its own: from the sources through tsx, from the build as it is. */
export async function startIssuer(): Promise<DemoIssuer> {
  const isSource = import.meta.url.endsWith(".ts");
  const program = fileURLToPath(new URL(`./issuer-process.${isSource ? "ts" : "js"}`, import.meta.url));
  const child = fork(program, [], {
    execArgv: isSource ? ["--import", import.meta.resolve("tsx")] : [],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const [ready] = (await Promise.race([once(child, "message"), ended(child)])) as [{ url: string }];
  let lastId = 0;
  const waiting = new Map<number, (token: string) => void>();
  child.on("message", ({ id, token }: { id: number; token: string }) => {
    waiting.get(id)?.(token);
    waiting.delete(id);
  });
  return {
    url: ready.url,
    pid: child.pid ?? 0,
    mint: (issuer, claims) =>
      new Promise((resolve, reject) => {
        const id = ++lastId;
        waiting.set(id, resolve);
        child.send({ id, issuer, claims } satisfies MintRequest, (error) => error && reject(error));
      }),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, "exit");
      child.kill("SIGTERM");
      await gone;
    },
  };
}

async function ended(child: ChildProcess): Promise<never> {
  const [code] = (await once(child, "exit")) as [number | null];
  throw new Error(`the issuer's process ended at its start (${code})`);
}
