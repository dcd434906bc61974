import type { AuditEvent, AuditPage } from "../../api/audit.ts";
import type { Explanation, ProposedGrantShape } from "../../api/decisions.ts";
import type { CliContext } from "../context.ts";
import { EXIT, type ExitCode } from "../exit-code.ts";
import { printable } from "../printable.ts";
import { queryOf, type LedgerFilters } from "./ledger-filters.ts";

/** `ephor explain ID`: why a decision fell as it did, and the smallest grant that would have allowed it. */
export async function explainDecision(context: CliContext, id: string): Promise<ExitCode> {
  const found = await context.api.get<Explanation>(`/v1/explain/${encodeURIComponent(id)}`);
  if (context.isJson) {
    context.printJson(found);
    return EXIT.done;
  }
  const { event, considered, difference, smallest, changed } = found;
  const { body } = event;
  context.print(
    printable(
      `${event.decision}${event.reason === undefined ? "" : ` (${event.reason})`}: ${event.type} at ${event.at}`,
    ),
    ...inputs(event, body),
    ...(considered.length === 0 ? [] : ["grants looked at:"]),
    ...considered.map(({ agent, grant, verdict }) =>
      printable(`  ${agent}: ${grant ?? "no grant at this resource"}${grant === undefined ? "" : ` — ${verdict}`}`),
    ),
    printable(`difference: ${difference}`),
    ...(smallest.length === 0 ? [] : ["smallest grant that would allow it:", ...yamlOf(smallest)]),
  );
  if (changed) context.say("the trust was changed since this decision");
  return EXIT.done;
}

const SHOWN = ["action", "method", "tool", "uri", "name", "purpose", "trust_version"] as const;

function inputs(event: AuditEvent, body: AuditEvent["body"]): string[] {
  const path = body["path"];
  const facts: [string, unknown][] = [
    ["agent", Array.isArray(path) ? path.join(" → ") : event.agent],
    ["on behalf of", event.sub],
    ["resource", event.resource],
    ...SHOWN.map((name): [string, unknown] => [name, body[name]]),
    ["chain", event.txn],
    ["token", event.jti],
  ];
  return facts.flatMap(([word, value]) =>
    value === undefined || value === null ? [] : [printable(`  ${word.padEnd(13)} ${String(value)}`)],
  );
}

/** Ready to be put under `grants:`; JSON's strings are YAML's. */
function yamlOf(grants: readonly ProposedGrantShape[]): string[] {
  return grants.map((grant) => {
    const party = grant.on_behalf_of;
    const members = [
      `agent: ${grant.agent}`,
      `resource: ${grant.resource}`,
      `actions: [${grant.actions.map((action) => JSON.stringify(action)).join(", ")}]`,
      ...(party === undefined
        ? []
        : [`on_behalf_of: { ${"issuer" in party ? `issuer: ${party.issuer}` : `agent: ${party.agent}`} }`]),
    ];
    return printable(`  - { ${members.join(", ")} }`);
  });
}

/** Pages that are read at most; what is older is said to be left out. */
const PAGES = 20;

/**
 * `ephor audit --would-refuse`: what flowed only because a resource observes, and the grants that would let it flow when it
 * enforces.
 */
export async function wouldRefuse(context: CliContext, filters: LedgerFilters): Promise<ExitCode> {
  const events: AuditEvent[] = [];
  let after: string | undefined;
  for (let page = 0; page < PAGES; page++) {
    const found: AuditPage = await context.api.get<AuditPage>("/v1/audit", {
      ...queryOf(filters),
      would_refuse: "true",
      limit: 500,
      ...(after !== undefined && { after }),
    });
    events.push(...found.events);
    after = found.next;
    if (after === undefined) break;
  }
  const calls = grouped(events);
  const grants = await proposed(context, events);
  if (context.isJson) context.printJson({ calls, grants });
  else {
    context.print(
      ...calls.map(({ count, agent, sub, resource, action, reason }) =>
        // A comment, so that the whole is a trust file.
        printable(`# ${String(count).padStart(6)}  ${agent} for ${sub}: ${resource}:${action} (${reason})`),
      ),
      ...(grants.length === 0 ? [] : ["grants:", ...yamlOf(grants)]),
    );
    if (calls.length === 0) context.say("nothing would have been refused");
  }
  if (after !== undefined) context.say("there are older ones: narrow it with --since or --agent");
  return EXIT.done;
}

interface Group {
  count: number;
  readonly agent: string;
  readonly sub: string;
  readonly resource: string;
  readonly action: string;
  readonly reason: string;
}

function grouped(events: readonly AuditEvent[]): Group[] {
  const groups = new Map<string, Group>();
  for (const { agent = "", sub = "", resource = "", body } of events) {
    const action = String(body["action"] ?? "");
    const reason = String(body["would_refuse"] ?? "");
    const key = JSON.stringify([agent, sub, resource, action, reason]);
    const group = groups.get(key) ?? { count: 0, agent, sub, resource, action, reason };
    group.count++;
    groups.set(key, group);
  }
  return [...groups.values()].toSorted((a, b) => b.count - a.count);
}

/** One grant for each agent, resource and sort of subject, with every action that was used. */
async function proposed(context: CliContext, events: readonly AuditEvent[]): Promise<ProposedGrantShape[]> {
  // One event of each sort is explained by the server, which knows what its grants lacked.
  const sorts = new Map<string, string>();
  for (const { id, agent, sub = "", resource, body } of events) {
    const party = sub.startsWith("agent|") ? sub : sub.split("|")[0];
    const key = JSON.stringify([agent, party, resource, body["action"], body["path"], body["would_refuse"]]);
    if (!sorts.has(key)) sorts.set(key, id);
  }
  const merged = new Map<string, ProposedGrantShape>();
  for (const id of sorts.values()) {
    const { smallest } = await context.api.get<Explanation>(`/v1/explain/${encodeURIComponent(id)}`);
    for (const grant of smallest) {
      const key = JSON.stringify([grant.agent, grant.resource, grant.on_behalf_of]);
      const before = merged.get(key);
      const actions = [...new Set([...(before?.actions ?? []), ...grant.actions])].toSorted();
      merged.set(key, { ...grant, actions });
    }
  }
  return [...merged.values()];
}
