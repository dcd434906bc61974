/*
 * core/signals says what security events of others (Shared Signals: CAEP and RISC) mean here: which event has which effect, and
 * of whom it speaks. It verifies nothing and stops nothing.
 */
import type { VerifiedClaims } from "../trust/subject.ts";

/** What an event does: ends all work for the person until a restore; ends it and refuses the tokens of that time; or nothing. */
export const SIGNAL_EFFECTS = ["kill", "sessions", "ignore"] as const;

/** One of {@link SIGNAL_EFFECTS}, as a trust entry may choose it. */
export type SignalEffect = (typeof SIGNAL_EFFECTS)[number];

const CAEP = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF = "https://schemas.openid.net/secevent/ssf/event-type/";

interface Signal {
  readonly uri: string;
  readonly effect: SignalEffect;
  /** Whether this event tells of something worse; others of the sort are recorded only. Absent: it always does. */
  readonly isWorse?: (event: VerifiedClaims) => boolean;
}

/** Events whose effect a trust entry may choose, with the effect where it says nothing. */
const CHOOSABLE = {
  "account-disabled": { uri: `${RISC}account-disabled`, effect: "kill" },
  "account-purged": { uri: `${RISC}account-purged`, effect: "kill" },
  "account-credential-change-required": { uri: `${RISC}account-credential-change-required`, effect: "ignore" },
  "credential-compromise": { uri: `${RISC}credential-compromise`, effect: "ignore" },
  "sessions-revoked": { uri: `${RISC}sessions-revoked`, effect: "sessions" },
  "session-revoked": { uri: `${CAEP}session-revoked`, effect: "sessions" },
  "credential-change": {
    uri: `${CAEP}credential-change`,
    effect: "ignore",
    isWorse: ({ change_type: change }) => change !== "create",
  },
  "token-claims-change": { uri: `${CAEP}token-claims-change`, effect: "ignore" },
  "assurance-level-change": {
    uri: `${CAEP}assurance-level-change`,
    effect: "ignore",
    isWorse: ({ change_direction: direction }) => direction !== "increase",
  },
  "device-compliance-change": {
    uri: `${CAEP}device-compliance-change`,
    effect: "ignore",
    isWorse: ({ current_status: status }) => status !== "compliant",
  },
  "risk-level-change": {
    uri: `${CAEP}risk-level-change`,
    effect: "ignore",
    isWorse: ({ current_level: level }) => level !== "LOW",
  },
} satisfies Readonly<Record<string, Signal>>;

/** The short name of an event whose effect can be chosen. */
export type SignalName = keyof typeof CHOOSABLE;

/** Names that the member `on` of a trust entry takes. */
export const SIGNAL_NAMES = Object.keys(CHOOSABLE) as readonly SignalName[];

/** Of the stream itself, or lifting what a former one did; nobody chooses about these. */
const FIXED: Readonly<Record<string, { readonly name: string; readonly effect: "restore" | "ignore" }>> = {
  [`${RISC}account-enabled`]: { name: "account-enabled", effect: "restore" },
  [`${SSF}verification`]: { name: "verification", effect: "ignore" },
  [`${SSF}stream-updated`]: { name: "stream-updated", effect: "ignore" },
};

const BY_URI: ReadonlyMap<string, SignalName> = new Map(SIGNAL_NAMES.map((name) => [CHOOSABLE[name].uri, name]));

/** What an event is called here, and what it does. */
export interface Meaning {
  /** Short name; `other` for an event that we do not know. */
  readonly name: string;
  readonly effect: SignalEffect | "restore";
}

/**
 * The meaning of one event.
 *
 * @param type its URI
 * @param event its members
 * @param on what the trust entry chose
 * @see CAEP 1.0 §3, RISC 1.0 §2, SSF 1.0 §7.1.4 and §8.1.5
 */
export function meaningOf(
  type: string,
  event: VerifiedClaims,
  on: Readonly<Partial<Record<SignalName, SignalEffect>>>,
): Meaning {
  const fixed = Object.hasOwn(FIXED, type) ? FIXED[type] : undefined;
  if (fixed !== undefined) return fixed;
  const name = BY_URI.get(type);
  if (name === undefined) return { name: "other", effect: "ignore" };
  const signal: Signal = CHOOSABLE[name];
  if (signal.isWorse?.(event) === false) return { name, effect: "ignore" };
  return { name, effect: on[name] ?? signal.effect };
}
