import { subsOf } from "../core/trust/operator-index.ts";
import type { Operator } from "../core/trust/model.ts";
import type { Path, TrustProblem } from "../core/trust/problem.ts";

/** What only one operator can have, each with where it stands. */
export function operatorKeys(operator: Operator): readonly { readonly key: string; readonly at: Path }[] {
  const { email, slack, teams, signIns } = operator;
  return [
    ...(email === undefined ? [] : [{ key: `email ${email.toLowerCase()}`, at: ["email"] }]),
    ...(slack === undefined ? [] : [{ key: `slack ${slack.team} ${slack.user}`, at: ["slack"] }]),
    ...(teams === undefined ? [] : [{ key: `teams ${teams.tenant} ${teams.user}`, at: ["teams"] }]),
    ...subsOf(operator).map((sub, at) => ({
      key: `sub ${sub}`,
      at: signIns.length === 1 ? ["sign_in", "claims", "sub"] : ["sign_in", at, "claims", "sub"],
    })),
  ];
}

/** One person is one operator: otherwise one could decide as two, and nobody could say who did. */
export function checkOperator(operator: Operator, taken: ReadonlyMap<string, readonly string[]>): TrustProblem[] {
  return operatorKeys(operator).flatMap(({ key, at }) => {
    const holders = taken.get(key) ?? [];
    const others = [...new Set(holders.filter((name) => name !== operator.name))];
    const isTwice = holders.filter((name) => name === operator.name).length > 1;
    return [
      ...others.map((name) => ({
        path: at,
        what: `is the operator ${name} already`,
        mend: "one person is one operator: keep one of the two",
      })),
      ...(isTwice ? [{ path: at, what: "stands there twice", mend: "keep one of the two" }] : []),
    ];
  });
}
