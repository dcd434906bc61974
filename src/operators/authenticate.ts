import { readBearer } from "../core/oauth/bearer.ts";
import { InvalidTokenError } from "../core/oauth/errors.ts";
import type { Db } from "../db/database.ts";
import { createLane } from "../db/lane.ts";
import { constantTimeEqual } from "../system/hash.ts";
import { isOperatorKeyShaped, OPERATOR_KEY_PREFIX, operatorKeyHash } from "./operator-key.ts";
import { readOperatorKeys, type OperatorKeyRow } from "./store.ts";

/** Who runs Ephor. */
export interface Operator {
  /** For audit events. */
  readonly id: string;
}

/** Compared when there is no key at all, so that the work is the same. */
const NO_KEY = { id: "", keyHash: operatorKeyHash("") };

/** Says which operator is asking. */
export interface Operators {
  /** Whether the header holds an operator key, good or bad, and not an access token. */
  isOperatorKey(authorization: string | undefined): boolean;
  /**
   * Who presented this key. Asked of the database each time: a replaced key is dead at once, everywhere.
   *
   * @param authorization the only `Authorization` header
   * @throws {InvalidTokenError} `operator_key_wrong`, the same and after the same work whatever is wrong with it
   * @throws {DatabaseUnreachableError} when the database is away
   */
  authenticate(authorization: string | undefined): Promise<Operator>;
}

/** @param deps.db give it the connection kept for the kill where that is what is asked for (INV-10) */
export function createOperators({ db }: { db: Pick<Db, "query"> }): Operators {
  // One read for all who wait: a crowd of wrong keys must not make a queue that the kill stands in.
  const reads = createLane<null, readonly OperatorKeyRow[]>(async (asked) => {
    const rows = await readOperatorKeys(db);
    return asked.map(() => rows);
  });
  return {
    isOperatorKey(authorization) {
      return keyOf(authorization).startsWith(OPERATOR_KEY_PREFIX);
    },
    async authenticate(authorization) {
      const presented = keyOf(authorization);
      const presentedHash = operatorKeyHash(presented);
      const rows = await reads.submit(null);
      let operator: Operator | undefined;
      // Every row is compared, found or not, so that the time says nothing (INV-26).
      for (const row of rows.length > 0 ? rows : [NO_KEY]) {
        if (constantTimeEqual(row.keyHash, presentedHash)) operator = { id: row.id };
      }
      if (operator === undefined || !isOperatorKeyShaped(presented)) {
        throw new InvalidTokenError({ reason: "operator_key_wrong" });
      }
      return operator;
    },
  };
}

/** The presented Bearer value; empty when there is none or it is malformed. An operator key is not bound to a DPoP key. */
function keyOf(authorization: string | undefined): string {
  try {
    const presented = readBearer(authorization);
    return presented?.scheme === "Bearer" ? presented.token : "";
  } catch (error) {
    if (error instanceof InvalidTokenError) return "";
    throw error;
  }
}
