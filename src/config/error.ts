/** One thing that is wrong with the configuration. Values are never quoted: a value may hold a password. */
export interface ConfigProblem {
  /** The file, or absent for the environment and the command line. */
  readonly file?: string;
  /** 1-based. */
  readonly line?: number;
  /** As the reader wrote it: `tasks.max`, `EPHOR_TASKS_MAX`, `--workers`. */
  readonly key: string;
  /** What is wrong. */
  readonly problem: string;
  /** What to do about it. */
  readonly mend: string;
}

/** The configuration does not allow a start. The message lists every problem with file, line, key and mend. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(sentence).join("\n"));
    this.problems = problems;
  }
}

function sentence({ file, line, key, problem, mend }: ConfigProblem): string {
  const place = file === undefined ? "" : line === undefined ? `${file}: ` : `${file}:${line}: `;
  return `${place}${key}: ${problem}. ${mend}.`;
}

/** A value that cannot be used; the reader of the setting adds where it was found. */
export class BadValue extends Error {
  override readonly name = "BadValue";
  readonly problem: string;
  readonly mend: string;

  constructor(problem: string, mend: string) {
    super(problem);
    this.problem = problem;
    this.mend = mend;
  }
}
