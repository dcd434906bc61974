-- As before; and the leases that the canary is vended go with their chains, once they have ended. Leases of others are kept for ever.
CREATE OR REPLACE FUNCTION ephor.forget_canary(p_before bigint, p_limit integer)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_txns text[]; v_keys text[]; v_kills text[];
BEGIN
  SELECT array_agg(g.txn) INTO v_txns FROM (
    SELECT t.txn FROM ephor.tasks t WHERE t.sub = 'agent|ephor-canary' AND t.deadline < p_before
      AND NOT EXISTS (SELECT 1 FROM ephor.leases l WHERE l.txn = t.txn AND l.status <> 'ended')
    ORDER BY t.deadline LIMIT p_limit FOR UPDATE SKIP LOCKED) g;
  IF v_txns IS NULL THEN RETURN 0; END IF;
  SELECT array_agg('txn:' || x) INTO v_keys FROM unnest(v_txns) x;
  SELECT array_agg(k.id) INTO v_kills FROM ephor.kills k
  WHERE k.keys && v_keys AND k.keys <@ v_keys AND k.actor = 'ephor-canary';
  DELETE FROM ephor.dead_keys d WHERE d.key = ANY (v_keys) AND d.kill_id = ANY (v_kills);
  DELETE FROM ephor.kills k WHERE k.id = ANY (v_kills);
  DELETE FROM ephor.leases l WHERE l.txn = ANY (v_txns) AND l.provider = 'canary' AND l.agent = 'ephor-canary';
  DELETE FROM ephor.nodes n WHERE n.txn = ANY (v_txns);
  DELETE FROM ephor.tasks t WHERE t.txn = ANY (v_txns);
  RETURN cardinality(v_txns);
END $$;
