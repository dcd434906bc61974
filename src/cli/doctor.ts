import { loadConfig } from "../config.ts";
import { ConfigError } from "../config/error.ts";
import type { CliContext } from "./context.ts";
import type { Finding } from "./doctor/finding.ts";
import { examineServer } from "./doctor/server.ts";
import { EXIT, type ExitCode } from "./exit-code.ts";
import { printable } from "./printable.ts";

const SIGNS = { ok: "ok  ", note: "note", wrong: "FAIL" } as const;

/** `ephor doctor`: what is wrong with a server and its surroundings, and the mend. Fails when anything is. */
export async function doctor(context: CliContext, options: { config?: string }): Promise<ExitCode> {
  const findings = [...examineConfig(context, options.config), ...(await examineServer(context))];
  const isHealthy = findings.every(({ state }) => state !== "wrong");
  if (context.isJson) context.printJson({ ok: isHealthy, findings });
  else context.print(...findings.map(shown));
  return isHealthy ? EXIT.done : EXIT.failed;
}

function shown({ subject, state, detail, mend }: Finding): string {
  return `${SIGNS[state]}  ${subject.padEnd(13)}  ${printable(detail)}${mend === undefined ? "" : `\n      ${" ".repeat(13)}  mend: ${printable(mend)}`}`;
}

/** The configuration as `ephor serve` would read it here. */
function examineConfig({ io }: CliContext, file: string | undefined): Finding[] {
  const { env, files, workingDirectory } = io.surroundings;
  try {
    const config = loadConfig({
      file,
      ...(env !== undefined && { env }),
      ...(files !== undefined && { files }),
      ...(workingDirectory !== undefined && { workingDirectory }),
    });
    const database = config.database === null ? "embedded database" : "database by DATABASE_URL";
    return [
      { subject: "configuration", state: "ok", detail: `issuer ${config.issuer}, ${database}, read here` },
      ...(config.anchor === null
        ? [
            {
              subject: "anchor",
              state: "note",
              detail: "there is none: a restored backup that has forgotten kills would start",
              mend: "set anchor to file:PATH on another disk",
            } as const,
          ]
        : []),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ file: named, line, key, problem, mend }) => ({
      subject: "configuration",
      state: "wrong",
      detail: `${[named, line].filter((part) => part !== undefined).join(":")}${named === undefined ? "" : ": "}${key} ${problem}`,
      mend,
    }));
  }
}
