/** The one place that makes clients of S3 stores. */
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3';

// The SDK's note that versions of 2027 will need another Node: versions here are pinned. It is read when a client is made.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

export type ObjectStoreClient = S3Client;

/** A client of a store that is addressed by path, as RADOS Gateway is. */
export const objectStoreClient = (
  options: Omit<S3ClientConfig, 'credentials'> & { accessKey: string; secretKey: string },
): ObjectStoreClient => {
  const { accessKey: accessKeyId, secretKey: secretAccessKey, ...rest } = options;
  return new S3Client({
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    // RADOS Gateway refuses the checksum trailers that the client adds by itself (411 MissingContentLength).
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...rest,
  });
};
