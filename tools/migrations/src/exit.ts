/** Exit codes of the job beside 0 and 3, which a result names itself. */
export const EXIT = { failed: 1, usage: 2, configuration: 78, interrupted: 130 } as const;
