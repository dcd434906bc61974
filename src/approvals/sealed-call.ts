import type { Envelope, Sealed } from "../vault/envelope.ts";
import type { Place } from "../vault/place.ts";
import type { SealedColumn } from "../vault/rewrap.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { StoredApproval } from "./approval.ts";
import type { ExactCall } from "./content.ts";

function placeOf(id: string): Place {
  return { table: "approvals", row: id, version: 1, purpose: "call" };
}

/** Calls that wait, or waited a moment ago: their arguments are people's data. */
export const CALL_COLUMN: SealedColumn = {
  sort: "approval",
  table: "ephor.approvals",
  column: "sealed",
  id: "id",
  facts: {},
  place: ({ id }) => placeOf(id),
  label: ({ id }) => id,
};

/** @param id of the approval: it opens there and nowhere else */
export async function sealedCall(envelope: Pick<Envelope, "seal">, id: string, call: ExactCall): Promise<Sealed> {
  const value = SecretBytes.fromText(JSON.stringify(call));
  try {
    return await envelope.seal(value, placeOf(id));
  } finally {
    value.wipe();
  }
}

/** @throws {DecryptError} */
export async function openCall(
  envelope: Pick<Envelope, "open">,
  { id, sealed, shown }: Pick<StoredApproval, "id" | "sealed" | "shown">,
): Promise<ExactCall> {
  // From before an upgrade: it goes within a day of its end.
  if (sealed === null && shown !== null) return JSON.parse(shown) as ExactCall;
  const value = await envelope.open(sealed, placeOf(id));
  try {
    return value.use((bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as ExactCall);
  } finally {
    value.wipe();
  }
}
