package streamscorer.djl;

import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;

/**
 * MXNet's .params file, checked before MXNet reads it. MXNet trusts the file: a shape of 2^64 numbers keeps
 * it busy for minutes, a weight that is not a number makes scores that are none, and a category index of
 * another model scores other categories under the same names. stream_scorer/model/params_file.py describes
 * the format and does the same checks.
 */
final class ParamsFile {
    private static final long LIST_MAGIC = 0x112;
    private static final int ARRAY_MAGIC = 0xF993FAC9;
    private static final int MAX_DIMENSIONS = 8;
    private static final String PREFIX = "arg:";
    private static final int MAX_SHOWN = 60; // characters of a name
    private static final int SLACK_BYTES = 1 << 20;

    private final ByteBuffer data;

    private ParamsFile(byte[] content) {
        data = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN);
    }

    /** What is wrong with a file. */
    static final class Wrong extends RuntimeException {
        private static final long serialVersionUID = 1L;

        Wrong(String message) {
            super(message, null, false, false);
        }
    }

    /** Where the values of an array begin, and its shape. */
    private record Array(int at, long[] shape) {}

    /** More than a file of such arrays can have. */
    static long mostBytes(Map<String, long[]> shapes) {
        long bytes = SLACK_BYTES;
        for (Map.Entry<String, long[]> shape : shapes.entrySet()) {
            bytes += 4 * product(shape.getValue()) + 8L * shape.getValue().length + 64 + shape.getKey().length();
        }
        return bytes;
    }

    /** What is wrong with a file for a network; null where nothing is. */
    static String problem(byte[] content, Network network) {
        try {
            ParamsFile file = new ParamsFile(content);
            file.check(file.arrays(), network);
            return null;
        } catch (Wrong wrong) {
            return wrong.getMessage();
        }
    }

    /** An array with its values in row order. */
    record Values(long[] shape, float[] numbers) {}

    /**
     * All arrays of a file, in its order.
     *
     * @throws Wrong where it is not such a file
     */
    static Map<String, Values> read(byte[] content) {
        ParamsFile file = new ParamsFile(content);
        Map<String, Values> found = new LinkedHashMap<>();
        file.arrays().forEach((name, array) -> {
            float[] numbers = new float[(int) product(array.shape())];
            file.data.slice(array.at(), 4 * numbers.length).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(numbers);
            found.put(name, new Values(array.shape(), numbers));
        });
        return found;
    }

    private Map<String, Array> arrays() {
        try {
            return readArrays();
        } catch (BufferUnderflowException error) {
            throw new Wrong("it ends at byte " + data.capacity() + ", inside its contents");
        }
    }

    private Map<String, Array> readArrays() {
        if (data.getLong() != LIST_MAGIC || data.getLong() != 0) {
            throw new Wrong("it does not start with 0x112 and 0");
        }
        long count = count(data.getLong());
        List<Array> arrays = new ArrayList<>();
        for (long number = 0; number < count; number++) {
            arrays.add(array(number));
        }
        if (data.getLong() != count) {
            throw new Wrong("it has " + count + " arrays but another number of names");
        }
        Map<String, Array> named = new LinkedHashMap<>();
        for (Array array : arrays) {
            String name = new String(bytes(data.getLong()), StandardCharsets.UTF_8);
            if (!name.startsWith(PREFIX) || named.put(name.substring(PREFIX.length()), array) != null) {
                throw new Wrong("it has an array '" + BadInput.shown(name, MAX_SHOWN) + "', without '" + PREFIX + "' or twice");
            }
        }
        if (data.hasRemaining()) {
            throw new Wrong(data.remaining() + " bytes follow its end");
        }
        return named;
    }

    private Array array(long number) {
        int magic = data.getInt();
        int storage = data.getInt();
        int dimensions = data.getInt();
        String what = "array " + number;
        if (magic != ARRAY_MAGIC) {
            throw new Wrong(what + " starts with 0x" + Integer.toHexString(magic) + ", not 0xf993fac9");
        }
        if (storage != 0) {
            throw new Wrong(what + " is sparse (storage type " + storage + ")");
        }
        if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
            throw new Wrong(what + " has " + dimensions + " dimensions");
        }
        long[] shape = new long[dimensions];
        for (int i = 0; i < dimensions; i++) {
            shape[i] = data.getLong();
        }
        int device = data.getInt();
        int numberOfDevice = data.getInt();
        int kind = data.getInt();
        if (device != 1 || numberOfDevice != 0) {
            throw new Wrong(what + " is of device " + device + ", not of the CPU");
        }
        if (kind != 0) {
            throw new Wrong(what + " is of data type " + kind + ", not float32");
        }
        if (Arrays.stream(shape).min().orElse(0) < 1) {
            String sizes = Arrays.stream(shape).mapToObj(Long::toString).collect(Collectors.joining(", "));
            throw new Wrong(what + " has shape (" + sizes + (dimensions == 1 ? ",)" : ")"));
        }
        int at = data.position();
        long length = product(shape);
        if (length > data.remaining() / 4) {
            throw new BufferUnderflowException();
        }
        data.position(at + 4 * (int) length);
        return new Array(at, shape);
    }

    private void check(Map<String, Array> arrays, Network network) {
        Map<String, long[]> shapes = network.shapes();
        TreeSet<String> names = new TreeSet<>(arrays.keySet());
        names.addAll(shapes.keySet());
        for (String name : names) {
            if (!shapes.containsKey(name)) {
                throw new Wrong("it has a parameter '" + BadInput.shown(name, MAX_SHOWN)
                        + "', which the network has not");
            }
            if (!arrays.containsKey(name)) {
                throw new Wrong("it has no " + name);
            }
            long[] found = arrays.get(name).shape();
            if (!Arrays.equals(found, shapes.get(name))) {
                throw new Wrong(name + " has the shape " + shown(found) + ", not " + shown(shapes.get(name)));
            }
        }
        for (Map.Entry<String, Array> entry : arrays.entrySet()) {
            Array array = entry.getValue();
            int last = array.at() + 4 * (int) product(array.shape());
            for (int at = array.at(); at < last; at += 4) {
                if (!Float.isFinite(data.getFloat(at))) {
                    throw new Wrong(entry.getKey() + " has values that are not finite numbers");
                }
            }
        }
        Array index = arrays.get("category_index");
        for (int n = 0; index != null && n < network.categories(); n++) {
            if (data.getFloat(index.at() + 4 * n) != network.categoryIndex().get(n)) {
                throw new Wrong("category_index is not the manifest's");
            }
        }
    }

    private long count(long things) {
        if (things < 0 || things > data.capacity() / 8) {
            throw new Wrong("it claims to hold " + Long.toUnsignedString(things) + " arrays, more than fit");
        }
        return things;
    }

    private byte[] bytes(long length) {
        if (length < 0 || length > data.remaining()) {
            throw new BufferUnderflowException();
        }
        byte[] found = new byte[(int) length];
        data.get(found);
        return found;
    }

    private static String shown(long[] shape) {
        return Arrays.stream(shape).mapToObj(Long::toString).collect(Collectors.joining(" x "));
    }

    /** Of all sizes; the largest number there is where it does not fit. */
    private static long product(long[] shape) {
        long product = 1;
        for (long size : shape) {
            long high = Math.multiplyHigh(product, size);
            product *= size;
            if (high != 0 || product < 0 || product > Long.MAX_VALUE / 8) {
                return Long.MAX_VALUE / 8;
            }
        }
        return product;
    }
}
