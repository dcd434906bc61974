/** What everybody saw, in milliseconds of one clock. */
export interface History {
  readonly tokens: SeenToken[];
  refused: number;
  failed: number;
  readonly kills: SeenKill[];
  readonly looks: Look[];
}

/** A token that came. */
export interface SeenToken {
  readonly agent: string;
  readonly sentAt: number;
  readonly receivedAt: number;
  readonly token: string;
}

/** A kill that was answered. */
export interface SeenKill {
  readonly agent: string;
  readonly calledAt: number;
  readonly answeredAt: number;
  /** When its restore was asked for. */
  readonly deadUntil: number;
}

/** What an introspection said. */
export interface Look {
  readonly of: SeenToken;
  readonly sentAt: number;
  readonly isActive: boolean;
}

/** An answer that was written before a kill's may be read by a busy client after it, milliseconds. */
const ON_THE_WAY_MS = 500;

/** What must not have happened (CONTRACT §2 rule 7, §6). */
export function checkHistory({ tokens, kills, looks }: History): string[] {
  const faults: string[] = [];
  const byAgent = new Map<string, SeenKill[]>();
  for (const kill of kills) byAgent.set(kill.agent, [...(byAgent.get(kill.agent) ?? []), kill]);
  for (const token of tokens) {
    for (const kill of byAgent.get(token.agent) ?? []) {
      if (token.sentAt > kill.answeredAt && token.receivedAt < kill.deadUntil)
        faults.push(`${token.agent}: issued ${ms(token.sentAt - kill.answeredAt)} after a kill was answered`);
      const wasUnderWay = token.sentAt < kill.answeredAt && token.sentAt > kill.calledAt - 10_000;
      const isLate = token.receivedAt > kill.answeredAt + ON_THE_WAY_MS && token.receivedAt < kill.deadUntil;
      if (wasUnderWay && isLate)
        faults.push(`${token.agent}: released ${ms(token.receivedAt - kill.answeredAt)} after a kill was answered`);
    }
  }
  for (const { of, sentAt, isActive } of looks) {
    if (!isActive) continue;
    const killed = (byAgent.get(of.agent) ?? []).find(
      (kill) => of.receivedAt < kill.calledAt && sentAt > kill.answeredAt,
    );
    if (killed)
      faults.push(`${of.agent}: a token from before a kill was active ${ms(sentAt - killed.answeredAt)} after it`);
  }
  return faults;
}

function ms(value: number): string {
  return `${value.toFixed(0)} ms`;
}
