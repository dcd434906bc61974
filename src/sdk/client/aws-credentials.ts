import { DeniedError } from "./outcome.ts";
import type { Work } from "./work.ts";

/** What the AWS SDK for JavaScript (v3) takes as credentials. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: Date;
}

/**
 * A credential provider for the AWS SDK for JavaScript (v3): `new S3Client({ credentials: awsCredentials(work, "aws-prod") })`.
 * The SDK asks again as the lease nears its end; who asks together shares one lease.
 *
 * @param resource a `credential` resource of kind `aws`
 */
export function awsCredentials(work: Pick<Work, "vend">, resource: string): () => Promise<AwsCredentials> {
  return async () => {
    const { credential, expires_at: expiresAt } = await work.vend(resource);
    const text = (name: string): string => {
      const value = credential[name];
      if (typeof value !== "string")
        throw new DeniedError(`${resource} is not of kind aws`, { code: "invalid_target" });
      return value;
    };
    return {
      accessKeyId: text("access_key_id"),
      secretAccessKey: text("secret_access_key"),
      sessionToken: text("session_token"),
      expiration: new Date(expiresAt),
    };
  };
}
