/** What a browser says of the page that sends a request. */
interface Sender {
  /** `Sec-Fetch-Site`. */
  readonly fetchSite: string | undefined;
  readonly origin: string | undefined;
}

/**
 * Whether a browser sent this from one of our own pages. `Referrer-Policy: no-referrer` makes `Origin` of our own forms `null`
 * (Fetch, "append a request Origin header"), so `Sec-Fetch-Site` counts, which no page can set; a browser that does not send it
 * must show our own origin. A request with neither is no form of ours.
 *
 * @param ourOrigin of the issuer
 * @see https://www.w3.org/TR/fetch-metadata/
 */
export function isFromOurPage({ origin, fetchSite }: Sender, ourOrigin: string): boolean {
  if (fetchSite === undefined) return origin === ourOrigin;
  // Whatever the name under which the browser reached us, `same-origin` is about that one: a tunnel may have another.
  return fetchSite === "same-origin";
}

/** Whether the reader followed a link of another site: the cookie stays at home then, though he may be signed in. */
export function isFromElsewhere({ fetchSite }: Pick<Sender, "fetchSite">): boolean {
  return fetchSite === "cross-site" || fetchSite === "same-site";
}
