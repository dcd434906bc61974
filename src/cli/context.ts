import { readCliSettings } from "../config/cli.ts";
import type { CliInput, CliSettings } from "../config/cli.ts";
import { createApiClient, type ApiClient } from "../sdk/client/api.ts";
import type { CliInputText } from "./input.ts";
import { printable, printableJson } from "./printable.ts";

/** What a command writes to, and what surrounds it. Tests hand in their own. */
export interface CliIo {
  /** Standard output: data, and nothing else. */
  readonly out: (text: string) => void;
  /** From now on a reader of standard output who goes away does not end the process; this is called instead. */
  readonly outlive?: (whenGone: () => void) => void;
  /** From now on words that cannot be written (nobody reads, the disk is full) are lost and end nothing. */
  readonly outlast?: () => void;
  /** Standard error: talk. */
  readonly talk: (text: string) => void;
  /** Standard input. */
  readonly input: CliInputText;
  /** How this program is called, as words: an interpreter and a file. Other programs call it as their helper. */
  readonly program: readonly string[];
  readonly isOutTerminal: boolean;
  readonly isTalkTerminal: boolean;
  readonly surroundings: CliInput;
}

/** What every command is given. */
export interface CliContext {
  readonly io: CliIo;
  /** Whether `--json` was said. */
  readonly isJson: boolean;
  readonly settings: CliSettings;
  /** The admin API, with the operator key. */
  readonly api: ApiClient;
  /** Lines of data for people. The caller has made foreign text printable. */
  print(...lines: string[]): void;
  /** Data for programs. */
  printJson(value: unknown): void;
  /** Lines of talk; made printable here. */
  say(...lines: string[]): void;
}

/** Makes the context of one command; settings are read when they are first asked for. */
export function createContext(io: CliIo, isJson: boolean): CliContext {
  let settings: CliSettings | undefined;
  let api: ApiClient | undefined;
  const readSettings = (): CliSettings => (settings ??= readCliSettings(io.surroundings));
  return {
    io,
    isJson,
    get settings() {
      return readSettings();
    },
    get api() {
      const { url, operatorKey } = readSettings();
      return (api ??= createApiClient({ url, bearer: () => operatorKey().reveal() }));
    },
    print: (...lines) => lines.forEach((line) => io.out(`${line}\n`)),
    printJson: (value) => io.out(`${printableJson(JSON.stringify(value, null, 2))}\n`),
    say: (...lines) => lines.forEach((line) => io.talk(`${printable(line)}\n`)),
  };
}
