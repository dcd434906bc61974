import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { decodeJwt } from "jose";
import { buildProgram } from "../../src/cli/program.ts";
import { SETTINGS } from "../../src/config/settings.ts";
import { runningClock } from "../support/hand-clock.ts";
import { world } from "../support/world.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readme = readFileSync(`${root}/README.md`, "utf8");

test("the lines of the README that mint a first token work as printed", async (t) => {
  if (spawnSync("curl", ["--version"]).status !== 0) return t.skip("curl is not here");
  // The command line signs with this machine's clock.
  const w = await world(t, { clock: runningClock(), trust: () => "agents: {}\n" });
  const block = /<!-- first token: [^>]*-->\n```sh\n([\s\S]*?)```/.exec(readme)?.[1];
  assert.ok(block !== undefined && block.includes("curl"));
  const script = block
    .replaceAll("http://127.0.0.1:8460", w.url)
    .replaceAll("npx ephor", `"${process.execPath}" scripts/ephor.mjs`)
    // The world's own trust has the file's usual source.
    .replace("trust.yaml\n", "trust.yaml --source readme\n");
  const child = spawn("bash", ["-euo", "pipefail", "-c", script], {
    cwd: root,
    env: { PATH: process.env["PATH"], EPHOR_URL: w.url, EPHOR_DATA: w.data },
  });
  let out = "";
  let talk = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (talk += chunk.toString()));
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.equal(code, 0, talk + out);
  const answer = JSON.parse(out.trim().split("\n").at(-1) ?? "") as { access_token: string; expires_in: number };
  assert.ok(answer.expires_in < 60);
  assert.equal(decodeJwt(answer.access_token).aud, "https://releases.acme.example");
});

test("the README's table of settings names every setting and variable there is, and no other", () => {
  const settings = Object.values(SETTINGS);
  for (const { key, variable } of settings) {
    assert.ok(readme.includes(`\`${key}\``), key);
    assert.ok(readme.includes(variable), variable);
  }
  const known = new Set<string>([
    ...Object.values(SETTINGS).map(({ variable }) => variable),
    "EPHOR_CONFIG",
    "EPHOR_TOKEN",
    "EPHOR_URL",
  ]);
  const named = [...readme.matchAll(/\bEPHOR_[A-Z_]*[A-Z]/g)].map(([name]) => name.replace(/_FILE$/, ""));
  assert.deepEqual(
    named.filter((name) => !known.has(name)),
    [],
  );
});

test("every command that the documents show exists", () => {
  const program = buildProgram({
    run: async () => {},
    io: {
      out: () => {},
      talk: () => {},
      program: [],
      input: { isTerminal: false, read: async () => "", chunks: async function* () {}, readHidden: async () => "" },
      isOutTerminal: false,
      isTalkTerminal: false,
      surroundings: {},
    },
  });
  const below = (folder: string): string[] => readdirSync(`${root}/${folder}`).map((name) => `${folder}/${name}`);
  const documents = [
    "README.md",
    "SECURITY.md",
    ...below("docs").filter((name) => name.endsWith(".md")),
    ...below("examples")
      .map((folder) => `${folder}/README.md`)
      .filter((name) => existsSync(`${root}/${name}`)),
  ];
  let seen = 0;
  for (const name of documents) {
    // What is said not to be there yet is not.
    const text = readFileSync(`${root}/${name}`, "utf8").replace(/^Not yet: .*$/m, "");
    const shell = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = ""]) => block).join("\n");
    const inText = text.replaceAll(/```[\s\S]*?```/g, "").matchAll(/`(?:npx )?ephor ([a-z][^`|]*)`/g);
    const inShell = shell.replaceAll("\\\n", " ").matchAll(/(?:^|\$\(|\| *)(?:npx )?ephor ([^\n|>)#]*)/gm);
    for (const [, line = ""] of [...inShell, ...inText]) {
      // What follows `--` is somebody else's command.
      const words = (line.split(" -- ")[0] ?? "").trim().split(/\s+/);
      const verb = program.commands.find((command) => command.name() === words[0]);
      assert.ok(verb, `${name}: ephor ${line}`);
      const nested = verb.commands.find((command) => command.name() === words[1]);
      const options = new Set(
        [...verb.options, ...(nested?.options ?? [])].flatMap(({ long, short }) => [long, short]),
      );
      for (const word of words.filter((one) => /^--?[a-z]/.test(one)))
        assert.ok(options.has(word), `${name}: ${word} in ephor ${line}`);
      seen += 1;
    }
  }
  assert.ok(seen > 100, String(seen));
});
