// Signs tokens and writes one form body a line. Its order is a recipe (tokens.ts), a count and a path.
import { createPrivateKey, randomUUID, sign } from "node:crypto";
import { writeFileSync } from "node:fs";

process.once("message", ({ key, claims, subjects, lifetimeSeconds, form, count, path }) => {
  const privateKey = createPrivateKey({ key: key.privateJwk, format: "jwk" });
  const header = encode({ alg: key.algorithm, kid: key.kid, typ: "JWT" });
  const now = Math.floor(Date.now() / 1000);
  const [before, after] = new URLSearchParams(form).toString().split("%25TOKEN%25");
  const lines = Array.from({ length: count }, (_, i) => {
    const own = subjects && { sub: subjects[i % subjects.length] };
    const times = { iat: now, exp: now + lifetimeSeconds };
    const input = `${header}.${encode({ ...claims, ...own, jti: randomUUID(), ...times })}`;
    const signature = sign("sha256", Buffer.from(input), { key: privateKey, dsaEncoding: "ieee-p1363" });
    return `${before}${input}.${signature.toString("base64url")}${after}`;
  });
  writeFileSync(path, lines.join("\n"));
  process.send(lines.length);
});

function encode(value) {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
