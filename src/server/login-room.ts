import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Rooms } from "../http/rooms.ts";

/** Where humans sign in, by the trust file as it is now. */
export function loginRoom(trust: () => TrustIndex): Rooms["login"] {
  return () => ({
    issuers: trust()
      .issuers()
      .flatMap(({ name, url, clientId, audience, identifies, subjectMaxAgeSeconds }) =>
        identifies !== "humans" || url === undefined || clientId === undefined
          ? []
          : [
              {
                name,
                url,
                client_id: clientId,
                audience: [...audience],
                ...(subjectMaxAgeSeconds !== undefined && { subject_max_age: subjectMaxAgeSeconds }),
              },
            ],
      )
      .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
  });
}
