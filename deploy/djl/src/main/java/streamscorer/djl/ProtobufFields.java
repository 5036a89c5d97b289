package streamscorer.djl;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HexFormat;

/**
 * The fields of a protobuf message, one after the other; numbers and bytes with a length, which is all that the
 * ONNX files of stream-scorer have.
 */
final class ProtobufFields {
    private final byte[] content;
    private final int begin;
    private final int end;
    private int at;
    private ProtobufFields last;

    private ProtobufFields(byte[] content, int begin, int end) {
        this.content = content;
        this.begin = begin;
        this.end = end;
        at = begin;
    }

    ProtobufFields(byte[] content) {
        this(content, 0, content.length);
    }

    /** The bytes are no such message. */
    static final class Malformed extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Malformed() {
            super("it is cut off, or no protobuf", null, false, false);
        }
    }

    /** The tag of a field of bytes: text, or a message. */
    static int bytes(int number) {
        return number << 3 | 2;
    }

    /** The tag of a field that is a number. */
    static int number(int number) {
        return number << 3;
    }

    boolean hasNext() {
        return at < end;
    }

    /**
     * The tag of the next field, which is the last one from now on.
     *
     * @throws Malformed where there is none
     */
    int next() {
        long tag = varint();
        boolean isNumber = (tag & 7) == 0;
        require(tag > 0 && tag <= Integer.MAX_VALUE && (isNumber || (tag & 7) == 2));
        long length = varint();
        require(isNumber || length >= 0 && length <= end - at);
        int stop = isNumber ? at : at + (int) length;
        last = new ProtobufFields(content, at, stop);
        at = stop;
        return (int) tag;
    }

    /** What the last field of bytes holds. */
    ProtobufFields last() {
        return last;
    }

    /** All of it as text. */
    String text() {
        return new String(content, begin, end - begin, StandardCharsets.UTF_8);
    }

    /** All of its bytes' SHA-256, 64 hexadecimal digits. */
    String sha256() {
        MessageDigest digest = Manifest.sha256();
        digest.update(content, begin, end - begin);
        return HexFormat.of().formatHex(digest.digest());
    }

    /** Seven bits a byte, the lowest first. */
    private long varint() {
        long value = 0;
        for (int shift = 0; shift < Long.SIZE; shift += 7) {
            require(at < end);
            byte part = content[at++];
            value |= (part & 0x7FL) << shift;
            if (part >= 0) {
                return value;
            }
        }
        throw new Malformed();
    }

    private static void require(boolean right) {
        if (!right) {
            throw new Malformed();
        }
    }
}
