/** nginx as a reverse proxy that only relays, where it is installed. */
import { spawn, spawnSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { Cores } from "./cores.ts";
import type { Started } from "./processes.ts";

/** Whether there is one. */
export function hasNginx(): boolean {
  return spawnSync("nginx", ["-v"], { stdio: "ignore" }).status === 0;
}

/** Starts one worker on the server's core. @param o.upstream origin */
export async function startNginx(o: {
  port: number;
  upstream: string;
  folder: string;
  cores: Cores;
}): Promise<Started> {
  const folder = join(o.folder, "nginx");
  await mkdir(folder, { recursive: true });
  const conf = join(folder, "nginx.conf");
  await writeFile(conf, configuration({ ...o, folder }));
  const [command = "nginx", ...args] = [...o.cores.server, "nginx", "-p", folder, "-e", "stderr", "-c", conf];
  const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"] });
  const ended = new Promise<void>((done) => child.once("exit", () => done()));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await ended;
  };
  for (let attempt = 0; attempt < 100; attempt++) {
    if (child.exitCode !== null) throw new Error("nginx ended");
    if (await isListening(o.port)) return { pid: child.pid ?? 0, stop };
    await new Promise((done) => setTimeout(done, 50));
  }
  await stop();
  throw new Error("nginx does not listen");
}

function configuration({ port, upstream, folder }: { port: number; upstream: string; folder: string }): string {
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `  ${name}_temp_path ${join(folder, name)};`)
    .join("\n");
  return `daemon off;
master_process off;
pid ${join(folder, "pid")};
events { worker_connections 4096; }
http {
  access_log off;
${temporary}
  keepalive_requests 1000000000;
  upstream echo { server ${new URL(upstream).host}; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port};
    location / { proxy_pass http://echo; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
  }
}
`;
}

function isListening(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => done(true)).once("error", () => done(false));
    socket.once("connect", () => socket.destroy());
  });
}
