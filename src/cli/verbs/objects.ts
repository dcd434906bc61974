import { createHash, randomBytes } from "node:crypto";
import type { TrustObject, TrustPage } from "../../api/trust-objects.ts";
import type { ApiClient } from "../../sdk/client/api.ts";
import type { CliContext } from "../context.ts";
import { EXIT, type ExitCode } from "../exit-code.ts";
import { columns } from "../printable.ts";

/** Objects asked for at once. */
const PAGE = 500;

/** `ephor agents`: who is known here. */
export async function listAgents(context: CliContext): Promise<ExitCode> {
  return await list(context, "agents", (agent) => {
    const { owner, purpose, review_by: reviewBy } = agent.spec;
    const review = typeof reviewBy === "string" ? `review by ${reviewBy}` : "";
    return [agent.name, agent.status ?? "", text(owner), agent.source ?? "(api)", review, text(purpose)];
  });
}

/** `ephor resources`: where tokens can be spent. */
export async function listResources(context: CliContext): Promise<ExitCode> {
  return await list(context, "resources", (resource) => {
    const kind = (["resource", "mcp", "http", "credential"] as const).find((key) => Object.hasOwn(resource.spec, key));
    return [
      resource.name,
      kind === "resource" ? "verify" : (kind ?? ""),
      resource.identifier ?? "",
      resource.source ?? "(api)",
    ];
  });
}

async function list(
  context: CliContext,
  kind: "agents" | "resources",
  row: (object: TrustObject) => string[],
): Promise<ExitCode> {
  const items = await readAll(context.api, kind);
  if (context.isJson) context.printJson({ items });
  else if (items.length === 0) context.say(`there are no ${kind}; ephor apply -f FILE makes them`);
  else context.print(...columns(items.map(row)));
  return EXIT.done;
}

/** All objects of a kind, page by page. */
export async function readAll(
  api: ApiClient,
  kind: "issuers" | "agents" | "resources" | "grants" | "operators" | "channels",
): Promise<TrustObject[]> {
  const items: TrustObject[] = [];
  let after: string | undefined;
  do {
    const page: TrustPage = await api.get<TrustPage>(`/v1/${kind}`, { limit: PAGE, after });
    items.push(...page.items);
    after = page.next;
  } while (after !== undefined);
  return items;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/**
 * `ephor resources secret NAME`: a 256-bit secret for a tool server at `/introspect`, made here and known to nobody else. The
 * server only ever learns its digest, by the trust file.
 */
export async function makeResourceSecret(context: CliContext, name: string): Promise<ExitCode> {
  const secret = randomBytes(32).toString("base64url");
  const hash = `sha256:${createHash("sha256").update(secret).digest("hex")}`;
  if (context.isJson) {
    context.printJson({ client_id: name, client_secret: secret, secret_hash: hash });
    return EXIT.done;
  }
  context.print(secret);
  context.say(
    "",
    `This is the secret of ${name}, shown once: give it to the tool server (client_id ${name}), and put this into the trust file:`,
    `  resources:`,
    `    ${name}:`,
    `      introspection: { secret_hash: "${hash}" }`,
  );
  return EXIT.done;
}
