/** Told how a run goes on. */
export interface Watcher {
  /**
   * Called after each batch, and twice a second while the job rests. `scannedBefore`: what earlier processes had
   * scanned of the sweep that this one continued.
   */
  progress(at: {
    sweep: number;
    scanned: number;
    scannedBefore: number;
    total: number;
    changed: number;
    lostRace: number;
    throttledBy: string | null;
  }): void;
  note(line: string): void;
}
