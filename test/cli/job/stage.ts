import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { startFakeGithub, type FakeGithub } from "../../support/fake-github.ts";
import { fakeSts, type FakeSts } from "../../support/fake-sts.ts";
import { runningClock } from "../../support/hand-clock.ts";
import { PROGRAM } from "../../support/program.ts";
import { settled, usualTrust, world, type World } from "../../support/world.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const BROKER = "arn:aws:iam::111122223333:user/ephor";
const ROLE = "arn:aws:iam::111122223333:role/deploy";

/** A secret that must be nowhere but at its upstream. */
export const CANARY = "canary-of-the-command-line";

/** How a run of the command line ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly talk: string;
}

/** `ephor` as a process of its own, as people start it. */
export interface Started {
  readonly child: ChildProcess;
  /** The next line on its standard output. */
  line(): Promise<string>;
  readonly ended: Promise<Ended>;
}

/** A world with one credential resource of each kind that commands use. */
export interface Stage {
  readonly w: World;
  readonly sts: FakeSts;
  readonly gitHost: string;
  /** URL of a private repository that a token of `widgets` reads. */
  readonly repository: string;
  /** The file that starts the command line. */
  readonly program: string;
  /** What surrounds a workload: its token in a file, and nothing of this machine. */
  readonly env: Record<string, string>;
  /** Starts `ephor` with these arguments. */
  start(args: readonly string[], env?: Record<string, string>, input?: string): Started;
  run(args: readonly string[], env?: Record<string, string>, input?: string): Promise<Ended>;
}

/** A bare repository by git's plain file protocol, for whoever has a live token as password. */
function servesRepository(folder: string, live: ReadonlySet<string>): NonNullable<FakeGithub["meddle"]> {
  const [work, bare] = [join(folder, "widgets"), join(folder, "widgets.git")];
  const git = (...args: string[]): void => {
    execFileSync("git", ["-c", "user.name=dana", "-c", "user.email=dana@acme.example", ...args], { stdio: "ignore" });
  };
  git("init", "--initial-branch=main", work);
  git("-C", work, "commit", "--allow-empty", "-m", "first");
  git("clone", "--bare", work, bare);
  git("-C", bare, "update-server-info");
  return ({ path, headers }) => {
    const [, name] = /^\/acme\/widgets\.git\/([\w./-]+)(?:\?.*)?$/.exec(path) ?? [];
    if (name === undefined || name.includes("..")) return undefined;
    const [user, password = ""] = Buffer.from((headers.authorization ?? "").replace(/^Basic /, ""), "base64")
      .toString()
      .split(":");
    if (user !== "x-access-token" || !live.has(password))
      return { status: 401, headers: { "www-authenticate": 'Basic realm="GitHub"' }, body: "" };
    const file = join(bare, name);
    return existsSync(file) ? { status: 200, body: readFileSync(file) } : { status: 404, body: "" };
  };
}

type Cleanup = Parameters<typeof world>[0];

export async function stage(t: Cleanup): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), "ephor-job-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const github = await startFakeGithub({
    ids: ["123456"],
    publicKey: createPublicKey(rsa.privateKey),
    installationId: 7,
    installation: { owner: "acme", repositories: ["widgets"], permissions: { contents: "write" } },
    now: () => Math.floor(Date.now() / 1_000),
  });
  t.after(() => github.stop());
  github.meddle = servesRepository(folder, github.live);
  const sts = await fakeSts(t, {
    keys: { AKIAEXAMPLEROOT00001: { secretAccessKey: CANARY, arn: BROKER } },
    roles: {
      [ROLE]: {
        trust: {
          Statement: {
            Effect: "Allow",
            Principal: { AWS: BROKER },
            Action: ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
          },
        },
      },
    },
  });
  const w = await world(t, { trust: usualTrust, clock: runningClock() });
  const database = new URL(w.databaseUrl);
  const host = database.searchParams.get("host") ?? database.hostname;
  await w.apply(
    `
resources:
  crm-key: { credential: { static: { secret: crm-key, disclose: true } } }
  orders-db:
    credential:
      postgres: { host: "${host}", database: "${database.pathname.slice(1)}", secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
  aws-prod:
    credential:
      aws: { role_arn: "${ROLE}", region: eu-west-1, secret: aws-root, endpoint: "${sts.url}" }
  widgets:
    credential:
      github_app: { app_id: 123456, installation_id: 7, secret: github-key, repositories: [widgets], permissions: { contents: read }, api_url: "${github.url}", internal: true }
grants:
  - { agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }
  - { agent: release-bot, resource: orders-db, actions: [vend] }
  - { agent: release-bot, resource: aws-prod, actions: [vend] }
  - { agent: release-bot, resource: widgets, actions: [vend] }
  - { agent: triage-bot, resource: crm-key, actions: [vend], residual: unlimited, on_behalf_of: { issuer: okta } }
`,
    "vault.yaml",
  );
  for (const [name, value] of [
    ["crm-key", CANARY],
    ["orders-admin", w.databaseUrl],
    ["aws-root", JSON.stringify({ access_key_id: "AKIAEXAMPLEROOT00001", secret_access_key: CANARY })],
    ["github-key", rsa.privateKey.export({ type: "pkcs8", format: "pem" }).toString()],
  ] as const) {
    const put = await settled(() => w.operator("PUT", `/v1/secrets/${name}`, { value }));
    if (put.status !== 200) throw new Error(put.text);
  }
  await writeFile(join(folder, "token"), w.workload("release-bot"));
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: folder,
    XDG_RUNTIME_DIR: folder,
    EPHOR_URL: w.url,
    EPHOR_DATA: join(folder, "data"),
    EPHOR_TOKEN_FILE: join(folder, "token"),
    EPHOR_OPERATOR_KEY: "ephor_op_canary-of-the-environment",
  };
  const start: Stage["start"] = (args, more = {}, input) => {
    const child = spawn(process.execPath, [PROGRAM, ...args], { env: { ...env, ...more }, stdio: "pipe" });
    let out = "";
    let talk = "";
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (talk += chunk.toString()));
    if (input !== undefined) child.stdin.end(input);
    const ended = new Promise<Ended>((resolve) =>
      child.once("close", (code, signal) => resolve({ code, signal, out, talk })),
    );
    t.after(() => void child.kill("SIGKILL"));
    return {
      child,
      ended,
      async line() {
        const next = await lines.next();
        if (next.done === true) throw new Error(`it ended: ${talk}`);
        return next.value;
      },
    };
  };
  return {
    w,
    sts,
    program: PROGRAM,
    repository: `${github.url}/acme/widgets.git`,
    gitHost: new URL(github.url).host,
    env,
    start,
    run: (args, more, input) => start(args, more, input ?? "").ended,
  };
}
