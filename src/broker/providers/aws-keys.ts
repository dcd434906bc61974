import { JsonError, readJson } from "../../core/token/json.ts";
import { ProviderError } from "../provider-error.ts";
import { awsKeysValue } from "./aws-settings.ts";
import type { AwsKeys } from "./aws-sts.ts";

/** Reads the vault's value. @throws {ProviderError} `secret_malformed` */
export function readAwsKeys(text: string): AwsKeys {
  const keys = awsKeysValue.safeParse(readSecretJson(text));
  if (!keys.success) throw new ProviderError("secret_malformed");
  const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, session_token: sessionToken } = keys.data;
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
}

/** @throws {ProviderError} `secret_malformed`, without a cause: that could quote it */
export function readSecretJson(text: string): unknown {
  try {
    return readJson(Buffer.from(text, "utf8"));
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ProviderError("secret_malformed");
  }
}
