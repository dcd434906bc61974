import { randomUUID } from "node:crypto";
import { mkdir, open, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { JWK } from "jose";
import type { ApplyResult } from "../../api/apply.ts";
import type { TrustObject } from "../../api/trust-objects.ts";
import { readIssuer } from "../../sdk/client/api.ts";
import { makeAgentKey, signAssertion } from "../../sdk/client/assertion.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { exitCodeOf, placed } from "../failure.ts";
import { nowSeconds } from "../moments.ts";

/** Mode bits of accounts other than the file's owner. */
const OTHERS = 0o077;

/**
 * `ephor agents key NAME`: a key pair for an agent without a platform, such as one on a laptop. The private half stays in the
 * data folder (0600); the public half is registered, with the agent itself where `--owner` says who answers for it.
 */
export async function makeKey(
  context: CliContext,
  order: { name: string; owner: string | undefined; purpose: string | undefined; may: readonly string[] },
): Promise<ExitCode> {
  const { name } = order;
  const asked = grantsOf(name, order.may);
  const known = await find(context, "agents", name);
  if (known === undefined && order.owner === undefined) {
    throw new CliFailure(`there is no agent ${name}; say --owner PERSON to make it`, { exitCode: EXIT.wrongUsage });
  }
  const grants = await Promise.all(asked.map((grant) => besideWhatIsThere(context, grant)));
  const path = keyPath(context, name);
  const written = await readKey(path);
  const privateJwk = written ?? (await makeAgentKey(`${name}-${Math.floor(nowSeconds())}`)).privateJwk;
  const publicJwk = publicHalf(privateJwk);
  const agent = known === undefined ? agentOf(order, [publicJwk]) : undefined;
  const refusal = await foresee(context, { name, agent, grants });
  if (refusal !== undefined) {
    const { code, entries } = refusal;
    if (context.isJson) context.printJson({ error: code, errors: entries });
    context.say("refused, nothing was made or changed:", ...entries.map((entry) => `  ${placed(entry)}`));
    return exitCodeOf(refusal);
  }
  if (written === undefined) await writeKey(path, privateJwk);
  const isRegistered = await register(context, { known, publicJwk, ...order });
  for (const grant of isRegistered ? grants : []) await context.api.put(`/v1/grants/${grant.name}`, grant.spec);
  if (context.isJson) context.printJson({ agent: name, path, public_jwk: publicJwk, registered: isRegistered });
  else context.print(path);
  if (isRegistered) {
    context.say(
      `${name} proves itself with this key now: ephor exchange --as ${name} …, or ephor agents assertion ${name}`,
    );
    return EXIT.done;
  }
  context.say(
    `${name} belongs to the trust file ${known?.source ?? ""}, so nothing was registered. Add this to it and apply it again:`,
    `  keys: [${JSON.stringify(publicJwk)}]`,
  );
  return EXIT.failed;
}

/** `ephor agents assertion NAME`: a fresh `private_key_jwt` for this server; works once, for two minutes. */
export async function printAssertion(
  context: CliContext,
  name: string,
  audience: string | undefined,
): Promise<ExitCode> {
  const assertion = await makeAssertion(context, name, audience);
  if (context.isJson) context.printJson({ agent: name, client_assertion: assertion });
  else context.print(assertion);
  return EXIT.done;
}

/**
 * Signs an assertion with the agent's key of this machine.
 *
 * @param audience the server's issuer; without it the server is asked
 */
export async function makeAssertion(context: CliContext, name: string, audience?: string): Promise<string> {
  const path = keyPath(context, name);
  const privateJwk = await readKey(path);
  if (privateJwk === undefined)
    throw new CliFailure(`${name} has no key here; make one: ephor agents key ${name}`, {
      exitCode: EXIT.unauthenticated,
    });
  const issuer = audience ?? (await trustedIssuer(context));
  return await signAssertion({ agent: name, issuer, privateJwk, nowSeconds: Math.floor(nowSeconds()) });
}

/** A server elsewhere that claims another issuer could spend the assertion there, so its word is not taken. */
async function trustedIssuer(context: CliContext): Promise<string> {
  const { url, isLocal } = context.settings;
  const issuer = await readIssuer(url);
  if (issuer === url || isLocal) return issuer;
  throw new CliFailure(
    `the server at ${url} says that its issuer is ${issuer}; set EPHOR_URL to that, or name it with --audience`,
  );
}

function keyPath(context: CliContext, name: string): string {
  return join(context.settings.dataDirectory, "agents", `${name}.jwk`);
}

async function find(context: CliContext, kind: "agents" | "grants", name: string): Promise<TrustObject | undefined> {
  try {
    return await context.api.get<TrustObject>(`/v1/${kind}/${name}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return undefined;
    throw error;
  }
}

interface AgentOrder {
  readonly owner: string | undefined;
  readonly purpose: string | undefined;
}

function agentOf({ owner, purpose }: AgentOrder, keys: readonly JWK[]): Record<string, unknown> {
  return { ...(owner !== undefined && { owner }), ...(purpose !== undefined && { purpose }), keys };
}

/**
 * What the server would say to an agent and its grants, asked before anything is made: they are put one by one, and an agent
 * without what it was made for is not what was asked for.
 *
 * @param wanted.agent where there is none yet
 * @returns what it would refuse, in the words that were typed
 */
async function foresee(
  context: CliContext,
  wanted: { name: string; agent: Record<string, unknown> | undefined; grants: readonly PlainGrant[] },
): Promise<ApiError | undefined> {
  const { name, agent, grants } = wanted;
  if (agent === undefined && grants.length === 0) return undefined;
  // Under names that nothing has: no file may have what was put by itself.
  const file = JSON.stringify({
    ...(agent !== undefined && { agents: { [name]: agent } }),
    grants: grants.map(({ spec }) => ({ ...spec, name: randomUUID() })),
  });
  try {
    await context.api.post<ApplyResult>("/v1/apply", {
      source: `ephor agents key ${randomUUID()}`,
      file,
      dry_run: true,
    });
    return undefined;
  } catch (error) {
    if (!(error instanceof ApiError) || error.entries.length === 0) throw error;
    const entries = error.entries.map(({ line: _line, path, ...rest }) => ({ ...rest, path: askedAs(path, grants) }));
    return new ApiError({ status: error.status, code: error.code, entries });
  }
}

/** The place of a problem, as it was typed. */
function askedAs(path: string, grants: readonly PlainGrant[]): string {
  const [, at, nth] = /^grants\[(\d+)\](?:\.actions\[(\d+)\])?/.exec(path) ?? [];
  const spec = at === undefined ? undefined : grants[Number(at)]?.spec;
  if (spec === undefined) return path;
  const actions = nth === undefined ? spec.actions : spec.actions.slice(Number(nth), Number(nth) + 1);
  return actions.map((action) => `--may ${spec.resource}:${action}`).join(" ");
}

/** @returns false for an agent that belongs to a file, which alone may change it */
async function register(
  context: CliContext,
  order: {
    name: string;
    known: TrustObject | undefined;
    publicJwk: JWK;
  } & AgentOrder,
): Promise<boolean> {
  const { name, known, publicJwk } = order;
  const keys = (known?.spec["keys"] ?? []) as JWK[];
  if (keys.some((key) => key.x === publicJwk.x && key.y === publicJwk.y)) return true;
  if (known !== undefined && known.source !== null) return false;
  await context.api.put(`/v1/agents/${name}`, { ...known?.spec, ...agentOf(order, [...keys, publicJwk]) });
  return true;
}

interface PlainGrant {
  readonly name: string;
  readonly spec: { readonly agent: string; readonly resource: string; readonly actions: readonly string[] };
}

/**
 * The grant with what one of that name allows already. `--may` adds and takes nothing away: neither actions, nor what somebody
 * else's grant demands (a human, a condition, an approval).
 */
async function besideWhatIsThere(context: CliContext, { name, spec }: PlainGrant): Promise<PlainGrant> {
  const there = await find(context, "grants", name);
  if (there === undefined) return { name, spec };
  const { agent, resource, actions, ...more } = there.spec;
  const isPlain = Object.keys(more).every((key) => key === "name") && Array.isArray(actions);
  if (there.source !== null || !isPlain || agent !== spec.agent || resource !== spec.resource) {
    throw new CliFailure(
      `--may: there is a grant ${name} already that says more than --may can, or belongs to a trust file; nothing was changed. ` +
        "Add the action there, or make a grant of another name in a trust file",
    );
  }
  return { name, spec: { ...spec, actions: [...new Set([...(actions as string[]), ...spec.actions])] } };
}

function grantsOf(agent: string, may: readonly string[]): PlainGrant[] {
  const actions = new Map<string, string[]>();
  for (const scope of may) {
    const [, resource, action] = /^([a-z0-9][a-z0-9-]{0,62}):(.+)$/.exec(scope) ?? [];
    if (resource === undefined || action === undefined) {
      throw new CliFailure("--may: write RESOURCE:ACTION", { exitCode: EXIT.wrongUsage });
    }
    actions.set(resource, [...(actions.get(resource) ?? []), action]);
  }
  return [...actions].map(([resource, own]) => ({
    name: `${agent}-${resource}`.slice(0, 63),
    spec: { agent, resource, actions: own },
  }));
}

async function writeKey(path: string, privateJwk: JWK): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(privateJwk)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function readKey(path: string): Promise<JWK | undefined> {
  let text: string;
  try {
    const { mode } = await stat(path);
    if (process.platform !== "win32" && (mode & OTHERS) !== 0) {
      throw new CliFailure(`${path} can be used by other accounts; run: chmod 600 ${path}`);
    }
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const jwk = JSON.parse(text) as JWK;
    if (typeof jwk.d === "string") return jwk;
  } catch {
    // Said below, without the text: it may be a key with one character wrong.
  }
  throw new CliFailure(`${path} holds no private key; move it away and make a new one`);
}

function publicHalf({ kty, crv, x, y, kid, alg, use }: JWK): JWK {
  return { kty, crv, x, y, kid, alg, use } as JWK;
}
