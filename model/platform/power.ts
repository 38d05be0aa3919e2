/** How the power of a machine is controlled without its operating system: by its BMC. */

/** What BMCs speak; each has a driver in `activities/platform/power/`. */
export const bmcProtocols = ['ipmi', 'redfish'] as const;
export type BmcProtocol = (typeof bmcProtocols)[number];

/** softOff asks the operating system to shut down; off, cycle and reset ask nobody. */
export const powerCommands = ['on', 'off', 'cycle', 'reset', 'softOff'] as const;
export type PowerCommand = (typeof powerCommands)[number];

/** As IPMI and Redfish have it. */
export const defaultBmcPorts = { ipmi: 623, redfish: 443 } as const satisfies Record<BmcProtocol, number>;

/** What IPMI 2.0 keeps of a user name and of a password, in bytes. */
export const ipmiLongest = { user: 16, password: 20 } as const;
