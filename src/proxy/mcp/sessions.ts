import { createHmac } from "node:crypto";
import { digestsEqual } from "../../system/hash.ts";

/** Who a session belongs to. */
export interface SessionOwner {
  readonly resource: string;
  readonly agent: string;
  /** For whom the agent acts: another person's session is another one. */
  readonly sub: string;
}

/** What a client may declare at `initialize` that it answers to its server, and the letter that stands for it. */
const LETTERS = { sampling: "s", elicitation: "e", roots: "r", "elicitation/url": "u" } as const;

/** Something that a server may ask of a client that declared it. */
export type ClientCapability = keyof typeof LETTERS;

export const CLIENT_CAPABILITIES = Object.keys(LETTERS) as readonly ClientCapability[];

/** A session of an upstream. */
export interface Session {
  /** The upstream's name of it. */
  readonly id: string;
  /** What its client declared when it began. */
  readonly declared: readonly ClientCapability[];
}

/**
 * A text that a client is to bring back: an upstream's, the id of a request to its session's client or of an event; or ours, of
 * an approval that its human is to see to.
 */
export type Keepsake = "question" | "event" | "approval" | "round";

/**
 * Sessions of upstreams of the older revisions, as agents see them: the upstream's id and what the client declared, with a
 * seal that binds both to the agent and the person that the session began with. No replica keeps anything; a session id
 * authenticates nobody (A-MCP-09).
 */
export interface Sessions {
  /** The id that the agent gets. */
  seal(session: Session, owner: SessionOwner): string;
  /** Undefined for one that is not this owner's. */
  open(id: string, owner: SessionOwner): Session | undefined;
  /** A keepsake as the client gets it. */
  sealKeepsake(kind: Keepsake, text: string, of: { owner: SessionOwner; session: string }): string;
  /** Undefined for one that was not sealed for this session and owner. */
  openKeepsake(kind: Keepsake, given: string, of: { owner: SessionOwner; session: string }): string | undefined;
}

/** Visible ASCII (MCP 2025-11-25, session management). */
const VISIBLE = /^[\x21-\x7e]{1,512}$/;

/** @param secret shared by all replicas; read at each use */
export function createSessions(secret: () => Uint8Array): Sessions {
  const sealOf = (label: string, { resource, agent, sub }: SessionOwner, ...texts: string[]): string =>
    createHmac("sha256", secret())
      .update([label, resource, agent, sub, ...texts].map((text) => `${text.length}:${text}`).join(""))
      .digest("base64url");
  const sealOfSession = (id: string, letters: string, owner: SessionOwner): string =>
    sealOf("ephor mcp session", owner, id, letters);
  return {
    seal({ id, declared }, owner) {
      const letters = declared.map((one) => LETTERS[one]).join("");
      return `${encoded(id)}.${letters}.${sealOfSession(id, letters, owner)}`;
    },
    open(given, owner) {
      const [text = "", letters = "", seal = "", ...more] = given.split(".");
      const id = decoded(text);
      if (more.length > 0 || !VISIBLE.test(id) || !digestsEqual(seal, sealOfSession(id, letters, owner)))
        return undefined;
      return { id, declared: CLIENT_CAPABILITIES.filter((one) => letters.includes(LETTERS[one])) };
    },
    sealKeepsake: (kind, text, { owner, session }) =>
      `${encoded(text)}.${sealOf(`ephor mcp ${kind}`, owner, session, text)}`,
    openKeepsake(kind, given, { owner, session }) {
      const [encodedText = "", seal = "", ...more] = given.split(".");
      const text = decoded(encodedText);
      const isOurs = more.length === 0 && digestsEqual(seal, sealOf(`ephor mcp ${kind}`, owner, session, text));
      return isOurs ? text : undefined;
    },
  };
}

function encoded(text: string): string {
  return Buffer.from(text, "utf8").toString("base64url");
}

function decoded(text: string): string {
  return Buffer.from(text, "base64url").toString("utf8");
}

/** Whether a server's session id is one that may be handed on. */
export function isSessionId(text: string): boolean {
  return VISIBLE.test(text);
}
