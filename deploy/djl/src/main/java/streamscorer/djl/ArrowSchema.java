package streamscorer.djl;

import com.google.flatbuffers.FlatBufferBuilder;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Base64;
import java.util.Map;
import org.apache.arrow.flatbuf.Endianness;
import org.apache.arrow.flatbuf.Field;
import org.apache.arrow.flatbuf.FixedSizeList;
import org.apache.arrow.flatbuf.FloatingPoint;
import org.apache.arrow.flatbuf.KeyValue;
import org.apache.arrow.flatbuf.Message;
import org.apache.arrow.flatbuf.MessageHeader;
import org.apache.arrow.flatbuf.MetadataVersion;
import org.apache.arrow.flatbuf.Precision;
import org.apache.arrow.flatbuf.Schema;
import org.apache.arrow.flatbuf.TimeUnit;
import org.apache.arrow.flatbuf.Timestamp;
import org.apache.arrow.flatbuf.Type;
import org.apache.arrow.flatbuf.Utf8;

/**
 * A score file's Arrow schema. It says that a list has a fixed size, which Parquet's own schema can't.
 * Arrow writes and reads it in the file's metadata as {@code ARROW:schema}: base64 of an IPC message,
 * which is -1 (int32, little-endian), its length (int32) and a Message table.
 */
final class ArrowSchema {
    private ArrowSchema() {}

    /**
     * customer_id string, as_of timestamp[ms, UTC], probabilities fixed_size_list&lt;float&gt;.
     *
     * @param width of the list
     * @param metadata the schema's own metadata
     */
    static String ofScores(int width, Map<String, String> metadata) {
        FlatBufferBuilder to = new FlatBufferBuilder();
        Utf8.startUtf8(to);
        int id = field(to, "customer_id", Type.Utf8, Utf8.endUtf8(to));
        int asOf = field(to, "as_of", Type.Timestamp,
                Timestamp.createTimestamp(to, TimeUnit.MILLISECOND, to.createString("UTC")));
        int element = field(to, "element", Type.FloatingPoint,
                FloatingPoint.createFloatingPoint(to, Precision.SINGLE));
        int list = field(to, "probabilities", Type.FixedSizeList,
                FixedSizeList.createFixedSizeList(to, width), element);
        int fields = Schema.createFieldsVector(to, new int[] {id, asOf, list});
        int told = Schema.createCustomMetadataVector(to, metadata.entrySet().stream()
                .mapToInt(e -> KeyValue.createKeyValue(to, to.createString(e.getKey()), to.createString(e.getValue())))
                .toArray());
        int schema = Schema.createSchema(to, Endianness.Little, fields, told, 0);
        to.finish(Message.createMessage(to, MetadataVersion.V5, MessageHeader.Schema, schema, 0, 0));
        byte[] message = to.sizedByteArray();
        int padded = (message.length + 7) / 8 * 8;
        ByteBuffer framed = ByteBuffer.allocate(8 + padded).order(ByteOrder.LITTLE_ENDIAN);
        framed.putInt(-1).putInt(padded).put(message);
        return Base64.getEncoder().encodeToString(framed.array());
    }

    private static int field(FlatBufferBuilder to, String name, byte kind, int type, int... children) {
        int called = to.createString(name);
        int inner = Field.createChildrenVector(to, children);
        return Field.createField(to, called, true, kind, type, 0, inner, 0);
    }
}
