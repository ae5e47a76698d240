/** The version of the repository format that this program reads and writes; docs/format.md describes it. */
export const formatVersion = 1;
