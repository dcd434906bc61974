import type { SealedColumn } from "../vault/rewrap.ts";
import { NONCE_PLACE } from "./held-keys.ts";
import { placeOfKey } from "./key-material.ts";
import type { KeyStatus, KeyUse } from "./key-ring.ts";
import { NONCE_ROW } from "./store.ts";

/** All keys that were ever made, and the secret of nonces. */
export const KEY_COLUMN: SealedColumn = {
  sort: "key",
  table: "ephor.keys",
  column: "sealed",
  id: "kid",
  facts: { use: '"use"', status: "status" },
  place: ({ id, facts }) =>
    id === NONCE_ROW
      ? NONCE_PLACE
      : placeOfKey({ kid: id, use: facts["use"] as KeyUse, status: facts["status"] as KeyStatus }),
  label: ({ id }) => id,
};
