import type { KeyRotation, Rewrap } from "../../api/keys.ts";
import { ConnectionError } from "../../sdk/client/errors.ts";
import type { CliContext } from "../context.ts";
import { EXIT, type ExitCode } from "../exit-code.ts";
import { columns, printable } from "../printable.ts";

const DOCUMENTS = { token: "/.well-known/jwks.json", record: "/.well-known/ephor-record-keys" } as const;

/** `ephor keys list`: the public keys of tokens and of records. Needs no operator key. */
export async function listKeys(context: CliContext): Promise<ExitCode> {
  const token = await readKeys(context, DOCUMENTS.token);
  const record = await readKeys(context, DOCUMENTS.record);
  if (context.isJson) context.printJson({ token, record });
  else
    context.print(
      ...columns([...token.map((key) => ["token", ...facts(key)]), ...record.map((key) => ["record", ...facts(key)])]),
    );
  return EXIT.done;
}

/** The keys of a public key set of the server. */
export async function readKeys(context: CliContext, path: string): Promise<readonly Record<string, unknown>[]> {
  const { status, json } = await context.api.look(path);
  const keys = (json as { keys?: unknown }).keys;
  if (status !== 200 || !Array.isArray(keys)) throw new ConnectionError("not_ephor");
  return keys as Record<string, unknown>[];
}

function facts(key: Record<string, unknown>): string[] {
  return [key["alg"], key["kid"]].map((value) => (typeof value === "string" ? value : ""));
}

/** `ephor keys rotate`: the next token key becomes the active one. No verification fails by it. */
export async function rotateKeys(context: CliContext, reason: string | undefined): Promise<ExitCode> {
  const rotation = await context.api.post<KeyRotation>("/v1/keys/rotate", reason === undefined ? {} : { reason });
  if (context.isJson) context.printJson(rotation);
  else context.print(...columns(rotation.keys.map((key) => [key.status, key.algorithm, key.kid])));
  if (rotation.event_id !== undefined) context.say(`rotated, event ${printable(rotation.event_id)}`);
  return EXIT.done;
}

/** `ephor keys rewrap`: asks until nothing is left, or what is left does not open. Exit 1 when something is left. */
export async function rewrapKeys(context: CliContext, reason: string | undefined): Promise<ExitCode> {
  let rewrapped = 0;
  for (;;) {
    const step = await context.api.post<Rewrap>("/v1/keys/rewrap", reason === undefined ? {} : { reason });
    rewrapped += step.rewrapped;
    const isDone = step.remaining <= step.failed.length || step.rewrapped === 0;
    if (!isDone) {
      context.say(`${rewrapped} rewrapped, ${step.remaining} to go`);
      continue;
    }
    if (context.isJson) context.printJson({ ...step, rewrapped });
    else {
      context.print(
        ...columns([
          ["kek", step.kek],
          ["rewrapped", String(rewrapped)],
          ["remaining", String(step.remaining)],
        ]),
      );
      for (const { sort, name } of step.failed)
        context.say(`does not open under any key that the server has: ${printable(sort)} ${printable(name)}`);
      if (step.remaining === 0) context.say("nothing needs kek_previous any more; take it out at every replica");
    }
    return step.remaining === 0 ? EXIT.done : EXIT.failed;
  }
}
