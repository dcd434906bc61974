// How a test run is told: one line per file, every failure in full where it happens and again by name at the end, and
// node's own closing lines (`# tests 12`, `# pass 12`, …), by which other programs count.
import { relative } from "node:path";
import { inspect } from "node:util";

const cwd = process.cwd();

export default async function* report(source) {
  const failures = [];
  let file;
  let inFile = { pass: 0, fail: 0, skip: 0, ms: 0 };
  const closing = [];

  const line = () => {
    const { pass, fail, skip, ms } = inFile;
    const parts = [`${pass} passed`, ...(fail ? [`${fail} failed`] : []), ...(skip ? [`${skip} skipped`] : [])];
    return `${fail ? "✖" : "✔"} ${file}  ${parts.join(", ")}  ${(ms / 1000).toFixed(1)} s\n`;
  };

  for await (const { type, data } of source) {
    if (type === "test:pass" || type === "test:fail") {
      const name = data.file === undefined ? "(no file)" : relative(cwd, data.file);
      if (file !== undefined && name !== file) {
        yield line();
        inFile = { pass: 0, fail: 0, skip: 0, ms: 0 };
      }
      file = name;
      if (data.nesting === 0) inFile.ms += data.details.duration_ms;
      if (data.skip !== undefined) {
        inFile.skip += 1;
        yield `  - skipped: ${data.name}${typeof data.skip === "string" ? ` (${data.skip})` : ""}\n`;
      } else if (type === "test:pass") {
        if (data.details.type !== "suite") inFile.pass += 1;
      } else {
        inFile.fail += 1;
        const { error } = data.details;
        // A parent fails because its child did: the child has told why.
        if (error?.failureType !== "subtestsFailed") {
          failures.push(`${file}: ${data.name}`);
          yield `  ✖ ${data.name} (${file}:${data.line ?? "?"})\n${indent(inspect(error?.cause ?? error, { depth: 6 }))}\n`;
        }
      }
    } else if (type === "test:stderr" || type === "test:stdout") {
      yield indent(data.message.trimEnd()) + "\n";
    } else if (type === "test:diagnostic" && data.nesting === 0) {
      closing.push(`# ${data.message}\n`);
    }
  }
  if (file !== undefined) yield line();
  if (failures.length > 0) yield `\nFailed:\n${failures.map((name) => `  ✖ ${name}\n`).join("")}`;
  yield "\n";
  yield* closing;
}

function indent(text) {
  return text.replace(/^/gm, "    ");
}
