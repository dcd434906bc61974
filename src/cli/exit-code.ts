/** How a command ends (CONTRACT §9). */
export const EXIT = {
  done: 0,
  failed: 1,
  wrongUsage: 2,
  denied: 3,
  approvalNeeded: 4,
  /** Not authenticated, or killed. */
  unauthenticated: 5,
} as const;

/** `ephor run` failed before its command started; its other codes are its command's (CONTRACT §9). */
export const NOT_STARTED = 125;

/** How a command ends. */
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A command cannot do what was asked. The message is one of our own sentences and says what to do. */
export class CliFailure extends Error {
  override readonly name = "CliFailure";
  readonly exitCode: ExitCode;

  constructor(message: string, options: { exitCode?: ExitCode; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.exitCode = options.exitCode ?? EXIT.failed;
  }
}
