/** Where in the life of a batch the job is killed: by the statement that comes next, or has just been answered. */
export const POINTS = [
  'before the read',
  'after the read',
  'before the write',
  'after the write',
  'after the checkpoint',
  'after the commit',
  'between sweeps',
] as const;
export type Point = (typeof POINTS)[number];
