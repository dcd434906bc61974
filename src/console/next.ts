/** Where one may be sent after signing in. */
const NEXT = /^\/console(?:\/[A-Za-z0-9_-]{1,64}){0,3}$/;

/**
 * The page to go to after signing in: one of ours, or the start page. Nothing is repaired: an address with a host, a scheme, a
 * backslash, an escape, a dot or a query is none of ours (A-ADM-10).
 */
export function nextPage(wanted: string | undefined): string {
  const isOurs = wanted !== undefined && NEXT.test(wanted) && !/^\/console\/(?:sign-|callback)/.test(wanted);
  return isOurs ? wanted : "/console";
}
