import assert from "node:assert/strict";
import { test } from "node:test";
import { NoOperatorKeyError, readCliSettings } from "../../src/config/cli.ts";
import { ConfigError } from "../../src/config/error.ts";
import { OPERATOR_KEY } from "./command-line.ts";

const OTHER_KEY = `ephor_op_${"Zy9xW8vU7tS6rQ5pO4nM3lK2jI1hG0fEdCbA-_zYxWv"}`;

function read(env: Record<string, string>, disk: Record<string, { text: string; mode?: number }> = {}) {
  return readCliSettings({
    env,
    workingDirectory: "/home/dana",
    files: {
      read: (path) => {
        const file = disk[path];
        if (file === undefined) throw new Error("ENOENT");
        return file.text;
      },
      mode: (path) => (disk[path] === undefined ? undefined : (disk[path].mode ?? 0o600)),
    },
  });
}

test("the server is on loopback unless EPHOR_URL says otherwise; a slash at its end is no part of it", () => {
  assert.equal(read({}).url, "http://127.0.0.1:8460");
  assert.equal(read({ EPHOR_URL: "https://sts.acme.example/" }).url, "https://sts.acme.example");
  assert.equal(read({ EPHOR_URL: "https://acme.example/ephor/" }).url, "https://acme.example/ephor");
});

test("a key is never sent in the clear to another machine", () => {
  for (const url of ["http://sts.acme.example", "http://10.0.0.7:8460"]) {
    assert.throws(() => read({ EPHOR_URL: url }), ConfigError);
  }
  for (const url of ["http://localhost:1", "http://[::1]:1", "https://sts.acme.example"]) read({ EPHOR_URL: url });
});

test("what is no URL of a server is refused", () => {
  for (const url of ["sts.acme.example", "ftp://x", "https://user:pw@x", "https://x/?a", "https://x/#a"]) {
    assert.throws(() => read({ EPHOR_URL: url }), ConfigError, url);
  }
});

test("the operator key comes from the variable, then its file, then the data folder", () => {
  const disk = {
    "/run/key": { text: `${OTHER_KEY}\n` },
    "/home/dana/ephor-data/operator-key": { text: OPERATOR_KEY },
    "/srv/data/operator-key": { text: OTHER_KEY },
  };
  const keyOf = (env: Record<string, string>): string => read(env, disk).operatorKey().reveal();
  assert.equal(keyOf({}), OPERATOR_KEY);
  assert.equal(keyOf({ EPHOR_DATA: "/srv/data" }), OTHER_KEY);
  assert.equal(keyOf({ EPHOR_OPERATOR_KEY_FILE: "/run/key" }), OTHER_KEY);
  assert.equal(keyOf({ EPHOR_OPERATOR_KEY: OPERATOR_KEY, EPHOR_OPERATOR_KEY_FILE: "/run/key" }), OPERATOR_KEY);
});

test("A-SEC-05 a key file that everybody can read, none at all, or something else in it is refused", () => {
  const path = "/home/dana/ephor-data/operator-key";
  const disks: Record<string, { text: string; mode?: number }>[] = [
    {},
    { [path]: { text: OPERATOR_KEY, mode: 0o644 } },
    { [path]: { text: "hello" } },
    { [path]: { text: "" } },
  ];
  for (const disk of disks) {
    assert.throws(
      () => read({}, disk).operatorKey(),
      (error) =>
        error instanceof NoOperatorKeyError &&
        !error.message.includes(OPERATOR_KEY) &&
        !error.message.includes("hello"),
    );
  }
});

test("without a need for the operator key nobody looks for it", () => {
  assert.doesNotThrow(() => read({ EPHOR_OPERATOR_KEY: "not a key" }));
});
