/** The checks made before an upload starts. The server makes them again; these only save a long wait. */

/** Whether a file passes an `accept` attribute (`image/*`, exact types, `.ext`); an empty one takes everything. */
export function isAccepted(accept: string, name: string, type: string): boolean {
  const rules = accept
    .split(",")
    .map((rule) => rule.trim().toLowerCase())
    .filter(Boolean);
  if (!rules.length) return true;
  const lowerName = name.toLowerCase();
  const lowerType = type.toLowerCase().split(";")[0]?.trim() ?? "";
  return rules.some((rule) => {
    if (rule.startsWith(".")) return lowerName.endsWith(rule);
    if (rule === "*/*" || rule === "*") return true;
    // A file whose type the browser does not know is left to the server.
    if (!lowerType) return true;
    return rule.endsWith("/*") ? lowerType.startsWith(rule.slice(0, -1)) : lowerType === rule;
  });
}

/** Whether a size is within the limit in bytes; no limit, or an unreadable one, allows everything. */
export function isSmallEnough(size: number, limit: number): boolean {
  return !(limit > 0) || size <= limit;
}
