import type { SecretPage, SecretRotated, SecretView } from "../../api/secrets.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { columns } from "../printable.ts";

/** Secrets asked for at once. */
const PAGE = 500;
/** Longest value, in bytes; the server takes as many characters. */
const MAX_VALUE_BYTES = 65_536;

/**
 * `ephor secret set NAME`: seals a value that comes on standard input, never as an argument, where `ps` and the shell's
 * history would show it.
 *
 * @param o.isRaw keeps the line break that ends the input; without it that one is no part of the value
 */
export async function setSecret(
  context: CliContext,
  o: { name: string; owner: string | undefined; isRaw: boolean },
): Promise<ExitCode> {
  const { input } = context.io;
  const typed = input.isTerminal ? await input.readHidden(`value of ${o.name}: `) : await input.read(MAX_VALUE_BYTES);
  const value = o.isRaw ? typed : typed.replace(/\r?\n$/, "");
  if (value === "")
    throw new CliFailure(`no value came on standard input; pipe it: ephor secret set ${o.name} < FILE`, {
      exitCode: EXIT.wrongUsage,
    });
  const facts = await context.api.put<SecretView>(`/v1/secrets/${o.name}`, {
    value,
    ...(o.owner !== undefined && { owner: o.owner }),
  });
  if (context.isJson) context.printJson(facts);
  else context.say(`${facts.name} is sealed, version ${facts.version}, fingerprint ${facts.fingerprint}`);
  return EXIT.done;
}

/** `ephor secret list`: what is sealed; never a value. */
export async function listSecrets(context: CliContext): Promise<ExitCode> {
  const items: SecretView[] = [];
  let after: string | undefined;
  do {
    const page: SecretPage = await context.api.get<SecretPage>("/v1/secrets", { limit: PAGE, after });
    items.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  if (context.isJson) context.printJson({ items });
  else if (items.length === 0) context.say("nothing is sealed; ephor secret set NAME < FILE");
  else
    context.print(
      ...columns(
        items.map((one) => [one.name, `v${one.version}`, one.owner, one.updated_at, one.updated_by, one.fingerprint]),
      ),
    );
  return EXIT.done;
}

/** `ephor secret show NAME`: what may be known of one. */
export async function showSecret(context: CliContext, name: string): Promise<ExitCode> {
  const facts = await context.api.get<SecretView>(`/v1/secrets/${name}`);
  if (context.isJson) context.printJson(facts);
  else context.print(...columns(Object.entries(facts).map(([key, value]) => [key, String(value)])));
  return EXIT.done;
}

/** `ephor secret rotate NAME`: a new value at the upstream and here; nobody sees it. */
export async function rotateSecret(context: CliContext, name: string): Promise<ExitCode> {
  const { secret, resource } = await context.api.post<SecretRotated>(`/v1/secrets/${name}/rotate`, {});
  if (context.isJson) context.printJson({ secret, resource });
  else context.say(`${name} is replaced at ${resource}, version ${secret.version}, fingerprint ${secret.fingerprint}`);
  return EXIT.done;
}

/** `ephor secret remove NAME`: every version of it; what needs it is refused from then on. */
export async function removeSecret(context: CliContext, name: string): Promise<ExitCode> {
  await context.api.delete(`/v1/secrets/${name}`);
  if (context.isJson) context.printJson({ removed: name });
  else context.say(`${name} is gone`);
  return EXIT.done;
}
