import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { SigV4Refusal, verifySigV4 } from "./sigv4.ts";

/** A service that holds a key and wraps with it. */
export interface KeyService {
  readonly url: string;
  /** What was asked, in order. */
  readonly calls: string[];
  /** Answers with this status and an error, until null. */
  fail(status: number | null): void;
  /** Forgets its key, as when it is deleted. */
  loseKey(): void;
}

interface Cleanup {
  after(fn: () => unknown): void;
}

async function serve(
  t: Cleanup,
  answer: (request: IncomingMessage, body: Buffer) => { status: number; json: object },
): Promise<{ url: string; fail: KeyService["fail"] }> {
  let failure: number | null = null;
  const server = createServer(async (request, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { status, json } =
      failure === null
        ? answer(request, Buffer.concat(chunks))
        : { status: failure, json: { __type: "KMSInternalException", errors: ["canary"] } };
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(json));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, fail: (status) => (failure = status) };
}

/** AES-GCM with a key of its own and the caller's context. */
function locker() {
  let key = randomBytes(32);
  return {
    lose: () => void (key = randomBytes(32)),
    lock(plain: Buffer, context: string): Buffer {
      const iv = randomBytes(12);
      const cipher = createCipheriv("aes-256-gcm", key, iv).setAAD(Buffer.from(context));
      return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
    },
    unlock(text: Buffer, context: string): Buffer | undefined {
      try {
        const cipher = createDecipheriv("aes-256-gcm", key, text.subarray(0, 12)).setAAD(Buffer.from(context));
        cipher.setAuthTag(text.subarray(-16));
        return Buffer.concat([cipher.update(text.subarray(12, -16)), cipher.final()]);
      } catch {
        return undefined;
      }
    },
  };
}

/** AWS KMS: Encrypt and Decrypt of one symmetric key, Signature Version 4 recomputed. */
export async function fakeKms(
  t: Cleanup,
  o: { keyArn: string; region: string; keys: Readonly<Record<string, string>> },
): Promise<KeyService> {
  const box = locker();
  const calls: string[] = [];
  const refuse = (status: number, code: string) => ({
    status,
    json: { __type: `com.amazonaws.kms#${code}`, message: "canary" },
  });
  const { url, fail } = await serve(t, (request, body) => {
    try {
      verifySigV4(request, body, {
        nowMs: Date.now(),
        region: o.region,
        service: "kms",
        keysOf: (id) => (o.keys[id] === undefined ? undefined : { secretAccessKey: o.keys[id] }),
      });
    } catch (error) {
      if (!(error instanceof SigV4Refusal)) throw error;
      return refuse(400, error.code);
    }
    const action = String(request.headers["x-amz-target"]).replace("TrentService.", "");
    calls.push(action);
    const asked = JSON.parse(body.toString()) as {
      KeyId?: string;
      Plaintext?: string;
      CiphertextBlob?: string;
      EncryptionContext?: Record<string, string>;
    };
    if (asked.KeyId !== o.keyArn) return refuse(400, "NotFoundException");
    const context = JSON.stringify(asked.EncryptionContext ?? {});
    if (action === "Encrypt") {
      const blob = box.lock(Buffer.from(asked.Plaintext ?? "", "base64"), context).toString("base64");
      return { status: 200, json: { CiphertextBlob: blob, KeyId: o.keyArn, EncryptionAlgorithm: "SYMMETRIC_DEFAULT" } };
    }
    const plain = box.unlock(Buffer.from(asked.CiphertextBlob ?? "", "base64"), context);
    if (plain === undefined) return refuse(400, "InvalidCiphertextException");
    return { status: 200, json: { Plaintext: plain.toString("base64"), KeyId: o.keyArn } };
  });
  return { url, calls, fail, loseKey: box.lose };
}

/** Vault's transit engine: encrypt and decrypt with one key, for one token. */
export async function fakeVault(t: Cleanup, o: { mount: string; key: string; token: string }): Promise<KeyService> {
  const box = locker();
  const calls: string[] = [];
  const { url, fail } = await serve(t, (request, body) => {
    if (request.headers["x-vault-token"] !== o.token) return { status: 403, json: { errors: ["permission denied"] } };
    const [, action] = new RegExp(`^/v1/${o.mount}/(encrypt|decrypt)/${o.key}$`).exec(request.url ?? "") ?? [];
    if (action === undefined || request.method !== "POST") return { status: 404, json: { errors: ["no handler"] } };
    calls.push(action);
    const asked = JSON.parse(body.toString()) as Record<string, string>;
    const context = asked["associated_data"] ?? "";
    if (action === "encrypt") {
      const text = box.lock(Buffer.from(asked["plaintext"] ?? "", "base64"), context).toString("base64");
      return { status: 200, json: { data: { ciphertext: `vault:v1:${text}`, key_version: 1 } } };
    }
    const plain = box.unlock(Buffer.from((asked["ciphertext"] ?? "").replace("vault:v1:", ""), "base64"), context);
    if (plain === undefined) return { status: 400, json: { errors: ["cipher: message authentication failed"] } };
    return { status: 200, json: { data: { plaintext: plain.toString("base64") } } };
  });
  return { url, calls, fail, loseKey: box.lose };
}
