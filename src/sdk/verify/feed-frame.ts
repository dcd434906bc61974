import { JWT_TYP } from "../../core/oauth/vocabulary.ts";
import { checkTyp, ownClaim, requireString } from "../../core/token/check.ts";
import { readJws } from "../../core/token/jws.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import type { KeySet } from "./key-set.ts";

/** Longest frame that is read, in bytes: a hundred thousand tokens of one resource, each by its name. */
export const MAX_FRAME_BYTES = 4 * 1024 * 1024;
/** Longest name of a dead thing, in characters: a `sub` or a resource identifier. */
const MAX_NAME_CHARACTERS = 4096;

/** What a frame can name. */
export const DEAD_KINDS = ["agent", "sub", "txn", "jti", "aud"] as const;

/** Something that is dead. */
export interface Dead {
  readonly kind: (typeof DEAD_KINDS)[number];
  readonly value: string;
  /** Epoch seconds: tokens issued until then are dead; undefined: all. */
  readonly iatLte: number | undefined;
}

/**
 * One frame of the feed: everything that died until position `seq` and was not told by the frames before it.
 *
 * @see CONTRACT §6 "The feed"
 */
export interface FeedFrame {
  /** The position after which it tells everything, where the server says so; else that of the frame before it. */
  readonly after: number | undefined;
  readonly seq: number;
  /** Epoch seconds, perhaps with fractions: the database's time when kills were last read. */
  readonly asOf: number;
  /** Epoch seconds: when the next frame comes at the latest. */
  readonly nextBy: number;
  readonly dead: readonly Dead[];
}

/**
 * Reads and verifies a frame. One that is not understood to its last member is refused: what it leaves out would live on.
 *
 * @param rules.resource the only audience, because a frame leaves out what does not concern its resource
 * @throws {RefusedToken}, {KeysUnavailableError}
 */
export async function readFrame(
  text: string,
  rules: { readonly keys: KeySet; readonly issuer: string; readonly resource: string },
): Promise<FeedFrame> {
  const jws = readJws(text, { maxBytes: MAX_FRAME_BYTES, ownHeader: true });
  checkTyp(jws.header.typ, [JWT_TYP.feed]);
  await rules.keys.prove(text, jws);
  const { payload } = jws;
  if (requireString(payload, "iss") !== rules.issuer) throw new RefusedToken({ reason: "token_issuer_unknown" });
  if (requireString(payload, "aud") !== rules.resource) throw new RefusedToken({ reason: "token_audience" });
  const number = (name: string, isWhole: boolean): number => {
    const value = ownClaim(payload, name);
    const isGood = typeof value === "number" && value >= 0 && (!isWhole || Number.isSafeInteger(value));
    if (!isGood) throw wrong(name);
    return value;
  };
  const dead = ownClaim(payload, "dead");
  if (!Array.isArray(dead)) throw wrong("dead");
  const frame: FeedFrame = {
    after: ownClaim(payload, "after") === undefined ? undefined : number("after", true),
    seq: number("seq", true),
    asOf: number("as_of", false),
    nextBy: number("next_by", false),
    dead: dead.map(readDead),
  };
  if ((frame.after ?? 0) > frame.seq) throw wrong("after");
  return frame;
}

function readDead(entry: unknown): Dead {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) throw wrong("dead");
  const { iat_lte: iatLte, ...names } = entry as Record<string, unknown>;
  const [[kind, value] = [], ...others] = Object.entries(names);
  const known = DEAD_KINDS.find((one) => one === kind);
  const isName = typeof value === "string" && value !== "" && value.length <= MAX_NAME_CHARACTERS;
  if (known === undefined || others.length > 0 || !isName) throw wrong("dead");
  if (iatLte !== undefined && (typeof iatLte !== "number" || !(iatLte >= 0))) throw wrong("iat_lte");
  return { kind: known, value, iatLte };
}

function wrong(claim: string): RefusedToken {
  return new RefusedToken({ reason: "token_claim_type", claim });
}
