import { providerKinds } from "../broker/kinds.ts";
import { problemsOf, type TrustProblem } from "../core/trust/problem.ts";
import type { CheckSettings } from "../registry/check.ts";
import type { DatabaseClock } from "../system/clock.ts";

/**
 * Judges the settings of `credential` resources by their providers, when they are applied: a mistyped key would else be noticed
 * by the first agent that needs it.
 */
export function createCheckSettings(clock: DatabaseClock): CheckSettings {
  const kinds = providerKinds({ now: () => clock.now() });
  return (kind, settings) => {
    const provider = kinds.get(kind);
    if (provider === undefined) {
      const mend = `write one of ${[...kinds.keys()].join(", ")}`;
      return [{ path: ["credential", kind], what: "is no kind of credential that this version makes", mend }];
    }
    const parsed = provider.settings.safeParse(settings);
    if (parsed.success) return [];
    return problemsOf(parsed.error.issues, settings, []).map(({ path, what }): TrustProblem => ({
      // It may be written beside `credential` for every kind.
      path: path[0] === "disclose" && what === "is not known here" ? path : ["credential", kind, ...path],
      what,
      mend: `correct it, or take it out; docs/vault.md says where the settings of ${kind} are described`,
    }));
  };
}
