import { mkdir, open, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { JWK } from "jose";
import type { TrustObject } from "../../api/trust-objects.ts";
import { readIssuer } from "../../sdk/client/api.ts";
import { makeAgentKey, signAssertion } from "../../sdk/client/assertion.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
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
  const publicJwk = publicHalf(await readOrMakeKey(path, name));
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

/** @returns false for an agent that belongs to a file, which alone may change it */
async function register(
  context: CliContext,
  order: {
    name: string;
    known: TrustObject | undefined;
    publicJwk: JWK;
    owner: string | undefined;
    purpose: string | undefined;
  },
): Promise<boolean> {
  const { name, known, publicJwk, owner, purpose } = order;
  const keys = (known?.spec["keys"] ?? []) as JWK[];
  if (keys.some((key) => key.x === publicJwk.x && key.y === publicJwk.y)) return true;
  if (known !== undefined && known.source !== null) return false;
  const asked = { ...(owner !== undefined && { owner }), ...(purpose !== undefined && { purpose }) };
  await context.api.put(`/v1/agents/${name}`, { ...known?.spec, ...asked, keys: [...keys, publicJwk] });
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

async function readOrMakeKey(path: string, name: string): Promise<JWK> {
  const known = await readKey(path);
  if (known !== undefined) return known;
  const { privateJwk } = await makeAgentKey(`${name}-${Math.floor(nowSeconds())}`);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(`${JSON.stringify(privateJwk)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  return privateJwk;
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
