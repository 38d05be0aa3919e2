/** Pages of `belay help` that belong to no single command. */
import { exitCodesHelp } from './exit-codes.ts';

const configuration = `Configuration

Flags come before the environment, the environment before the profile of the configuration file.

  --url         BELAY_URL       address of the API
  --token-file  BELAY_TOKEN     the token; there is no flag for the token itself, since others could read it in the list of processes
  --project     BELAY_PROJECT   project to work in: lists tell what is in it, creates make things in it
  --profile     BELAY_PROFILE   profile of the configuration file

The file is ~/.config/belay/config.json, or the one BELAY_CONFIG names:

  { "profile": "home", "profiles": { "home": { "url": "https://cloud.example.net", "token": "…", "project": "web" } } }

belay configure writes it, readable for its owner only. A token that is stored for one address is never sent to another.
Without a profile, the control plane that was started from the same checkout is meant.
`;

const values = `Values

  ids      wherever an id is expected, the name of the resource does if only one has it
  lists    --dns-servers 10.0.0.2,10.0.0.3, or the option several times, or a JSON array
  maps     --labels env=prod,tier=web, or a JSON object
  objects  --root-volume.size-gib 20, or --root-volume sizeGib=20, or JSON
  lists of objects
           --network-interfaces subnetId=web --network-interfaces subnetId=db,address=10.0.1.5, or a JSON array
  text     @file stands for the text of a file, @- for standard input, @@ for an at sign
  yes, no  --enabled, --no-enabled
  null     belay <kind> update <id> --clear <field>
  bodies   --from-file body.json, - for standard input; options come on top of it
`;

const filters = `Filters (AIP-160)

  state = "running"                       equal, also != < <= > >=
  name = "web*"                           begins with
  labels.env = "prod" AND vcpus >= 4      AND, OR (binds tighter), NOT, parentheses
  host.cluster.name = "a"                 across relations
  volumes:(sizeGib > 100)                 some related resource matches
`;

export const topics: Readonly<Record<string, string>> = {
  'exit-codes': exitCodesHelp,
  configuration,
  values,
  filters,
};
