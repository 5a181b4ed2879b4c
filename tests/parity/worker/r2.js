// The R2 bucket before a list of operations, and plain objects for R2's classes.
const HASHES = ["md5", "sha1", "sha256", "sha384", "sha512"];
const FIELDS = ["key", "version", "size", "etag", "httpEtag", "uploaded", "httpMetadata", "customMetadata", "range"];
const MORE = ["storageClass", "ssecKeyMd5", "bodyUsed"];

export async function reset(bucket) {
  let page;
  do {
    page = await bucket.list({ cursor: page?.cursor });
    await bucket.delete(page.objects.map((object) => object.key));
  } while (page.truncated);
}

export function describe(value) {
  if (typeof value.uploadPart === "function") return { key: value.key, uploadId: value.uploadId };
  if (typeof value.writeHttpMetadata !== "function") return undefined;
  return {
    ...Object.fromEntries([...FIELDS, ...MORE].map((name) => [name, value[name]])),
    checksums: Object.fromEntries(HASHES.map((name) => [name, value.checksums[name]])),
    checksumsJson: { ...value.checksums.toJSON() },
    hasBody: "body" in value,
    headers: written(value),
  };
}

function written(object) {
  const headers = new Headers({ "x-other": "kept" });
  try {
    object.writeHttpMetadata(headers);
  } catch (error) {
    return error.message;
  }
  return Object.fromEntries(headers);
}
