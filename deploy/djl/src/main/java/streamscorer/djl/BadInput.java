package streamscorer.djl;

/**
 * The input can't be used; a person must change it. The message is one line that names the
 * field, the value and the remedy, in the words of the Python package; the command exits with 2.
 */
public final class BadInput extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /** {@code field: 'value': remedy}. */
    public BadInput(String field, Object value, String remedy) {
        this(field + ": '" + value + "': " + remedy);
    }

    /** An error whose message is complete already. */
    BadInput(String message) {
        super(message);
    }
}
