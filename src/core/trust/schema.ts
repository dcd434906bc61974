/**
 * The room `trust`: what trust objects are, how their raw JSON is read, and which agents a verified token is. It does not
 * know files, databases or HTTP; `registry` brings the raw JSON and keeps the compiled index current, `federation` asks it
 * who a token is, `core/grants` decides with it.
 *
 * This file: raw JSON to trust objects. The raw shape is the one of CONTRACT §4 and is kept as the body that is stored and
 * served; the model beside it is what the program reasons with.
 */
import type { z } from "zod";
import { channelWire, toChannel } from "./channel-schema.ts";
import { agentWire, storedAgentWire, toAgent } from "./agent-schema.ts";
import { accessGrantWire, defaultGrantName, delegationGrantWire, isDelegation, toGrant } from "./grant-schema.ts";
import { identifierProblem } from "./identifiers.ts";
import { issuerWire, toIssuer } from "./issuer-schema.ts";
import type { Agent, Channel, Grant, Issuer, Operator, Resource, TrustKind } from "./model.ts";
import { plainProblem } from "./plain.ts";
import { FILE_HINT } from "./hints.ts";
import { problemsOf } from "./problem.ts";
import type { Path, TrustProblem } from "./problem.ts";
import { operatorWire, toOperator } from "./operator-schema.ts";
import { kindOfRaw, resourceWire, toResource } from "./resource-schema.ts";
import { NAME_PATTERN } from "./values.ts";

/** A trust object's raw JSON. */
export type TrustBody = Readonly<Record<string, unknown>>;

interface EntryBase<K extends TrustKind, M> {
  readonly kind: K;
  readonly name: string;
  /** As it was written, checked. A grant's name is not in it. */
  readonly body: TrustBody;
  readonly model: M;
  /** Where it stood in what was read. */
  readonly path: Path;
}

/** One trust object: as written and as understood. */
export type TrustEntry =
  | EntryBase<"issuers", Issuer>
  | EntryBase<"agents", Agent>
  | EntryBase<"resources", Resource>
  | EntryBase<"grants", Grant>
  | EntryBase<"operators", Operator>
  | EntryBase<"channels", Channel>;

/** Either what was read, or everything that is wrong with it. */
export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: readonly TrustProblem[] };

/** The kinds, in the order in which they refer to each other. */
export const TRUST_KINDS: readonly TrustKind[] = ["issuers", "agents", "resources", "grants", "operators", "channels"];

/** How an object is read: our own issuer's URL, and whether it comes from the database, where agents carry their status. */
export interface ReadOptions {
  readonly issuerUrl: string;
  readonly stored?: boolean;
  readonly at?: Path;
}

/**
 * Reads one object. Nothing but its own shape is judged: whether what it names exists is the registry's to check.
 */
export function readTrustObject(
  kind: TrustKind,
  name: string,
  raw: unknown,
  options: ReadOptions,
): Reading<TrustEntry> {
  const path = options.at ?? [kind, name];
  const refuse = (what: string, mend: string): Reading<TrustEntry> => ({ ok: false, problems: [{ path, what, mend }] });
  if (!NAME_PATTERN.test(name)) {
    return refuse("is no name", "names are of a-z, 0-9 and -, at most 63 characters, beginning with a letter or digit");
  }
  if (typeof raw !== "object" || raw === null || Array.isArray(raw))
    return refuse("must be a mapping", "write its members below it");
  const odd = plainProblem(raw, path);
  if (odd !== undefined) return { ok: false, problems: [odd] };
  const schema = schemaFor(kind, raw, options.stored === true);
  if (schema === undefined)
    return refuse("is of no kind, or of several", "give it exactly one of resource, mcp, http and credential");

  const parsed = schema.safeParse(raw);
  if (!parsed.success) return { ok: false, problems: problemsOf(parsed.error.issues, raw, path) };
  const body = parsed.data as TrustBody;
  if (kind === "resources" && typeof body["resource"] === "string") {
    const what = identifierProblem(body["resource"], options.issuerUrl);
    if (what !== undefined) {
      return {
        ok: false,
        problems: [
          {
            path: [...path, "resource"],
            what,
            mend: "resource takes the tool server's own URL, an absolute URI without a fragment",
          },
        ],
      };
    }
  }
  return { ok: true, value: toEntry(kind, name, body, { path, issuerUrl: options.issuerUrl }) };
}

/**
 * Reads a whole trust file's JSON: mappings of issuers, agents, resources, operators and channels, a list of grants.
 */
export function readTrustFile(raw: unknown, issuerUrl: string): Reading<readonly TrustEntry[]> {
  if (raw === null || raw === undefined) return { ok: true, value: [] };
  if (typeof raw !== "object" || Array.isArray(raw)) {
    return {
      ok: false,
      problems: [{ path: [], what: "must be a mapping", mend: FILE_HINT }],
    };
  }
  const problems: TrustProblem[] = Object.keys(raw)
    .filter((key) => !(TRUST_KINDS as readonly string[]).includes(key))
    .map((key) => ({
      path: [key],
      what: "is not known here",
      mend: FILE_HINT,
    }));
  const entries: TrustEntry[] = [];
  const members = raw as Readonly<Record<TrustKind, unknown>>;
  for (const { kind, name, raw: object, path } of [
    ...namedObjects(members, problems),
    ...listedGrants(members.grants, problems),
  ]) {
    const reading = readTrustObject(kind, name, object, { issuerUrl, at: path });
    if (reading.ok) entries.push(reading.value);
    else problems.push(...reading.problems);
  }
  return problems.length === 0 ? { ok: true, value: entries } : { ok: false, problems };
}

interface RawObject {
  readonly kind: TrustKind;
  readonly name: string;
  readonly raw: unknown;
  readonly path: Path;
}

function* namedObjects(members: Readonly<Record<TrustKind, unknown>>, problems: TrustProblem[]): Generator<RawObject> {
  for (const kind of ["issuers", "agents", "resources", "operators", "channels"] as const) {
    const mapping: unknown = Object.hasOwn(members, kind) ? members[kind] : undefined;
    if (mapping === undefined || mapping === null) continue;
    if (typeof mapping !== "object" || Array.isArray(mapping)) {
      problems.push({
        path: [kind],
        what: "must be a mapping of names",
        mend: `write each of the ${kind} below its name`,
      });
      continue;
    }
    for (const [name, raw] of Object.entries(mapping)) yield { kind, name, raw, path: [kind, name] };
  }
}

function* listedGrants(list: unknown, problems: TrustProblem[]): Generator<RawObject> {
  if (list === undefined || list === null) return;
  if (!Array.isArray(list)) {
    problems.push({ path: ["grants"], what: "must be a list", mend: "write each grant after a dash" });
    return;
  }
  const taken = new Set<string>();
  for (const [at, raw] of list.entries()) {
    const path: Path = ["grants", at];
    const name = grantName(raw, taken);
    if (taken.has(name))
      problems.push({
        path: [...path, "name"],
        what: "is the name of another grant too",
        mend: "give each grant its own name",
      });
    taken.add(name);
    yield { kind: "grants", name, raw, path };
  }
}

/** The grant's own name, else one after its agent and resource, numbered when it is not the first of that name. */
function grantName(raw: unknown, taken: ReadonlySet<string>): string {
  if (typeof raw !== "object" || raw === null) return "grant";
  const { name, agent, resource } = raw as Record<string, unknown>;
  if (typeof name === "string") return name;
  // An unreadable agent is reported by the schema; any name will do for that.
  const base = defaultGrantName({
    agent: typeof agent === "string" ? agent : "grant",
    ...(typeof resource === "string" && { resource }),
  });
  let candidate = base;
  for (let number = 2; taken.has(candidate); number += 1) candidate = `${base}-${number}`;
  return candidate;
}

function schemaFor(kind: TrustKind, raw: object, stored: boolean): z.ZodType | undefined {
  switch (kind) {
    case "issuers":
      return issuerWire;
    case "operators":
      return operatorWire;
    case "channels":
      return channelWire;
    case "agents":
      return stored ? storedAgentWire : agentWire;
    case "grants":
      return isDelegation(raw) ? delegationGrantWire : accessGrantWire;
    case "resources": {
      const resourceKind = kindOfRaw(raw);
      return resourceKind === undefined ? undefined : resourceWire(resourceKind);
    }
  }
}

function toEntry(
  kind: TrustKind,
  name: string,
  parsed: TrustBody,
  from: { path: Path; issuerUrl: string },
): TrustEntry {
  const { path, issuerUrl } = from;
  switch (kind) {
    case "issuers":
      return { kind, name, path, body: parsed, model: toIssuer(name, parsed as z.infer<typeof issuerWire>, issuerUrl) };
    case "channels":
      return { kind, name, path, body: parsed, model: toChannel(name, parsed as z.infer<typeof channelWire>) };
    case "operators":
      return { kind, name, path, body: parsed, model: toOperator(name, parsed as z.infer<typeof operatorWire>) };
    case "agents":
      return { kind, name, path, body: parsed, model: toAgent(name, parsed as z.infer<typeof storedAgentWire>) };
    case "grants": {
      const { name: _written, ...body } = parsed;
      return { kind, name, path, body, model: toGrant(name, body) };
    }
    case "resources": {
      const resourceKind = kindOfRaw(parsed);
      if (resourceKind === undefined) throw new TypeError("a resource without a kind passed its schema");
      return { kind, name, path, body: parsed, model: toResource(name, resourceKind, parsed, issuerUrl) };
    }
  }
}
