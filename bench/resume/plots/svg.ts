/** What the drawings are made of. */

/** The start of a drawing: a white page with a title. */
export function openPage(width: number, height: number, title: string): readonly string[] {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${width}" height="${height}" fill="white"/>`,
    text(12, 24, title, 'font-size="16" font-weight="bold"'),
  ];
}

export const pageEnd = '</svg>\n';

export function text(x: number, y: number, content: string, attributes = ''): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${x}" y="${y}" ${attributes}>${escaped}</text>`;
}

const secondsTicks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

/** Where a logarithmic scale of seconds has its marks. */
export function ticksBetween(least: number, most: number): readonly number[] {
  return secondsTicks.filter((tick) => tick >= least && tick <= most);
}

/** A file's name for a text. */
export function fileName(title: string): string {
  return title.replace(/[^a-z0-9]+/gi, '-').toLowerCase();
}
