/** What a file should hold. Bytes after its end are zero. */
export class FileModel {
  readonly bytes: Buffer;
  sizeBytes = 0;

  constructor(sizeBytesMax: number) {
    this.bytes = Buffer.alloc(sizeBytesMax);
  }

  write(offsetBytes: number, data: Uint8Array): void {
    this.bytes.set(data, offsetBytes);
    this.sizeBytes = Math.max(this.sizeBytes, offsetBytes + data.length);
  }

  resize(sizeBytes: number): void {
    if (sizeBytes < this.sizeBytes) this.bytes.fill(0, sizeBytes, this.sizeBytes);
    this.sizeBytes = sizeBytes;
  }

  zero(offsetBytes: number, lengthBytes: number): void {
    this.bytes.fill(0, offsetBytes, Math.min(offsetBytes + lengthBytes, this.sizeBytes));
  }

  grow(sizeBytes: number): void {
    this.sizeBytes = Math.max(this.sizeBytes, sizeBytes);
  }

  isZero(fromBytes: number, toBytes: number): boolean {
    for (let at = fromBytes; at < toBytes; at += zeros.length) {
      const end = Math.min(at + zeros.length, toBytes);
      if (this.bytes.compare(zeros, 0, end - at, at, end) !== 0) return false;
    }
    return true;
  }
}

const zeros = Buffer.alloc(64 * 1024);
