import { createTrustIndex } from "../../../src/core/trust/compiled.ts";
import type { MutableTrustIndex } from "../../../src/core/trust/compiled.ts";
import type {
  Agent,
  Channel,
  ClaimMatchers,
  Grant,
  Issuer,
  Operator,
  Resource,
  TrustObjects,
} from "../../../src/core/trust/model.ts";
import type { TrustProblem } from "../../../src/core/trust/problem.ts";
import { readTrustFile } from "../../../src/core/trust/schema.ts";
import type { TrustEntry } from "../../../src/core/trust/schema.ts";

/** Our own issuer in these tests. */
export const ISSUER_URL = "https://sts.acme.example";

/** The issuer URLs that matter for rules. */
export const GITHUB_URL = "https://token.actions.githubusercontent.com";

/** An issuer of workloads with nothing special. */
export function issuer(name: string, url = `https://${name}.example`, more: Partial<Issuer> = {}): Issuer {
  return { name, url, audience: [ISSUER_URL], identifies: "workloads", internal: false, singleUse: false, ...more };
}

/** An agent with one rule for each set of claims. */
export function agent(
  name: string,
  rules: readonly { issuer: string; claims: ClaimMatchers; byName?: boolean }[] = [],
  more: Partial<Agent> = {},
): Agent {
  return { name, owner: "dana@acme.example", trust: rules, keys: [], status: "active", ...more };
}

/** An index with these objects. */
export function index(objects: Partial<TrustObjects>): MutableTrustIndex {
  const made = createTrustIndex({ issuerUrl: ISSUER_URL });
  made.apply({
    version: 1,
    deletes: [],
    upserts: { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [], ...objects },
  });
  return made;
}

/** Reads a trust file's JSON that is expected to be good. */
export function read(raw: unknown): readonly TrustEntry[] {
  const reading = readTrustFile(raw, ISSUER_URL);
  if (!reading.ok) throw new Error(JSON.stringify(reading.problems));
  return reading.value;
}

/** The index of a trust file's JSON. */
export function indexOf(raw: unknown): MutableTrustIndex {
  const upserts = {
    issuers: [] as Issuer[],
    agents: [] as Agent[],
    resources: [] as Resource[],
    grants: [] as Grant[],
    operators: [] as Operator[],
    channels: [] as Channel[],
  };
  for (const entry of read(raw)) (upserts[entry.kind] as unknown[]).push(entry.model);
  return index(upserts);
}

/** What is wrong with a trust file's JSON. */
export function problemsIn(raw: unknown): readonly TrustProblem[] {
  const reading = readTrustFile(raw, ISSUER_URL);
  return reading.ok ? [] : reading.problems;
}

/** The keys at which a trust file's JSON is refused, sorted. */
export function problemPaths(raw: unknown): string[] {
  return problemsIn(raw)
    .map(({ path }) => path.join("."))
    .toSorted();
}
