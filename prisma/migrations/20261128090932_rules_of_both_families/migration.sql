
-- AlterTable
ALTER TABLE "securityGroup" ADD COLUMN     "remoteSecurityGroupIds" UUID[] DEFAULT ARRAY[]::UUID[];

-- Each rule says of which family it is, and whether it is in force. Until now all were of IPv4, and all were.
SELECT set_config('belay.operation', 'migration', true);
UPDATE "securityGroup" SET rules = (
  SELECT jsonb_agg('{"family": 4, "enabled": true}'::jsonb || r.rule ORDER BY r.place)
  FROM jsonb_array_elements(rules) WITH ORDINALITY AS r(rule, place))
WHERE jsonb_array_length(rules) > 0;
