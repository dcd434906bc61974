-- The canary kills a chain every few seconds, and what is killed is else kept for ever. Its chains go with their kills once they
-- have been over for a while: nothing of them can be minted or be live by then. The application itself may delete no kill; this
-- deletes those that the canary made of chains of its own, and no other.
CREATE FUNCTION ephor.forget_canary(p_before bigint, p_limit integer)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_txns text[]; v_keys text[]; v_kills text[];
BEGIN
  SELECT array_agg(g.txn) INTO v_txns FROM (
    SELECT t.txn FROM ephor.tasks t WHERE t.sub = 'agent|ephor-canary' AND t.deadline < p_before
    ORDER BY t.deadline LIMIT p_limit FOR UPDATE SKIP LOCKED) g;
  IF v_txns IS NULL THEN RETURN 0; END IF;
  SELECT array_agg('txn:' || x) INTO v_keys FROM unnest(v_txns) x;
  SELECT array_agg(k.id) INTO v_kills FROM ephor.kills k
  WHERE k.keys && v_keys AND k.keys <@ v_keys AND k.actor = 'ephor-canary';
  DELETE FROM ephor.dead_keys d WHERE d.key = ANY (v_keys) AND d.kill_id = ANY (v_kills);
  DELETE FROM ephor.kills k WHERE k.id = ANY (v_kills);
  DELETE FROM ephor.nodes n WHERE n.txn = ANY (v_txns);
  DELETE FROM ephor.tasks t WHERE t.txn = ANY (v_txns);
  RETURN cardinality(v_txns);
END $$;
