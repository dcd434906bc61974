/**
 * How a tool server shows Ephor who it is, for the feed and for introspection: by the resource's secret (`ephor resources
 * secret`), or by an agent that the trust file names as its introspection client.
 */
export type ResourceCredential =
  | {
      /** The resource's name in the trust file. */
      readonly name: string;
      readonly secret: string;
    }
  | {
      /** The resource's name in the trust file: that agent may introspect for several. */
      readonly name: string;
      /** A fresh assertion of that agent, asked for at each request: its platform's token, or one signed by its key. */
      readonly assertion: () => Promise<string>;
    };

/**
 * `Authorization` for a resource's secret.
 *
 * @see RFC 6749 §2.3.1: both parts are form-encoded before they are joined
 */
export function basicAuthorization({ name, secret }: { readonly name: string; readonly secret: string }): string {
  const encode = (text: string): string => new URLSearchParams([["", text]]).toString().slice(1);
  return `Basic ${Buffer.from(`${encode(name)}:${encode(secret)}`).toString("base64")}`;
}
