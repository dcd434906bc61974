import type { OnBehalfOf } from "../core/trust/model.ts";
import type { Path, TrustProblem } from "../core/trust/problem.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import { checkMaker, injectedUseOf, type InjectedUse } from "./check-inject.ts";
import type { Merged } from "./merged.ts";

/** One object's mention of another. */
interface Reference {
  /** Where it stands inside the object. */
  readonly at: Path;
  readonly kind: "issuers" | "agents" | "resources" | "operators" | "channels";
  readonly name: string;
  /** What the issuer must identify, where an issuer is named. */
  readonly identifies?: "workloads" | "humans";
  /** Whether people sign in there, so that it must have a `client_id`. */
  readonly signsIn?: boolean;
  /** What a credential resource must be, where one makes what is injected. */
  readonly makes?: InjectedUse;
}

/** An object without the place where it was written. */
export type Named = TrustEntry extends infer E
  ? E extends TrustEntry
    ? Pick<E, "kind" | "name" | "model">
    : never
  : never;

/** Everything that an object names. */
export function* referencesOf(object: Named): Generator<Reference> {
  switch (object.kind) {
    case "issuers":
      return;
    case "channels": {
      const { model } = object;
      if (model.kind !== "webhook") return;
      for (const [at, name] of model.operators.entries())
        yield { at: ["webhook", "operators", at], kind: "operators", name };
      return;
    }
    case "operators": {
      const { signIns } = object.model;
      for (const [at, { issuer }] of signIns.entries()) {
        const path: Path = signIns.length === 1 ? ["sign_in", "issuer"] : ["sign_in", at, "issuer"];
        yield { at: path, kind: "issuers", name: issuer, identifies: "humans", signsIn: true };
      }
      return;
    }
    case "agents":
      for (const [at, rule] of object.model.trust.entries()) {
        yield { at: ["trust", at, "issuer"], kind: "issuers", name: rule.issuer, identifies: "workloads" };
      }
      return;
    case "resources": {
      const { introspection } = object.model;
      if (introspection !== undefined && "agent" in introspection) {
        yield { at: ["introspection", "agent"], kind: "agents", name: introspection.agent };
      }
      const makes = injectedUseOf(object.model);
      if (makes !== undefined) yield { at: ["inject", makes.kind], kind: "resources", name: makes.resource, makes };
      return;
    }
    case "grants": {
      const { model } = object;
      yield { at: ["agent"], kind: "agents", name: model.agent };
      if (model.kind === "access") {
        yield { at: ["resource"], kind: "resources", name: model.resource };
        for (const [at, name] of (model.approval?.notify ?? []).entries())
          yield { at: ["approval", "notify", at], kind: "channels", name };
        for (const [at, approver] of (model.approval?.by ?? []).entries()) {
          if (typeof approver !== "object" || !("agent" in approver)) continue;
          const path: Path = model.approval?.by.length === 1 ? ["approval", "by"] : ["approval", "by", at];
          yield { at: path, kind: "agents", name: approver.agent };
        }
      } else
        for (const [at, name] of model.delegateTo.entries()) yield { at: ["delegate_to", at], kind: "agents", name };
      for (const [at, party] of (model.onBehalfOf ?? []).entries())
        yield partyReference(party, at, model.onBehalfOf?.length ?? 0);
    }
  }
}

function partyReference(party: OnBehalfOf, at: number, count: number): Reference {
  // A single entry may stand without a list; both paths lead to the right line.
  const path: Path = count === 1 ? ["on_behalf_of"] : ["on_behalf_of", at];
  return "issuer" in party
    ? { at: path, kind: "issuers", name: party.issuer, identifies: "humans" }
    : { at: path, kind: "agents", name: party.agent };
}

/** What is wrong with an object's references after a plan. */
export function checkReferences(object: Named, merged: Merged): TrustProblem[] {
  return [...referencesOf(object)].flatMap((reference) => {
    const { at, kind, name, identifies, signsIn, makes } = reference;
    const singular = kind.slice(0, -1);
    if (!merged[kind].has(name)) {
      return [
        {
          path: at,
          what: `names the ${singular} ${name}, which does not exist`,
          mend: `correct the name, or add the ${singular} to ${kind}`,
        },
      ];
    }
    if (identifies !== undefined && merged.issuers.get(name)?.identifies !== identifies) {
      return [
        {
          path: at,
          what: `names the issuer ${name}, which does not identify ${identifies}`,
          mend: `name an issuer with identifies: ${identifies}`,
        },
      ];
    }
    if (signsIn === true && merged.issuers.get(name)?.clientId === undefined) {
      return [
        {
          path: at,
          what: `names the issuer ${name}, which has no client_id`,
          mend: "register Ephor at the IdP (redirect URI: <issuer>/console/callback) and write client_id there",
        },
      ];
    }
    const maker = makes && merged.resources.get(name);
    return maker ? checkMaker(makes, maker) : [];
  });
}
