/**
 * Where a sealed value belongs. It goes into the associated data, so that a ciphertext moved to another row, kept from
 * an older version or used for another purpose does not open (INV-22).
 */
export interface Place {
  readonly table: string;
  /** The row's primary key. */
  readonly row: string;
  /** Counts up each time the row gets a new value, from 1. */
  readonly version: number;
  /** What the value is, in one word: `private-key`, `value`. */
  readonly purpose: string;
}

/**
 * The place as bytes. JSON of a list of strings and one number is unambiguous: no two places share an encoding.
 *
 * @param use tells the two ciphertexts of one envelope apart, so that neither can stand for the other
 */
export function placeBytes(use: "wrap" | "seal", place: Place): Uint8Array {
  return new TextEncoder().encode(
    JSON.stringify(["ephor", "envelope", 1, use, place.table, place.row, place.version, place.purpose]),
  );
}
