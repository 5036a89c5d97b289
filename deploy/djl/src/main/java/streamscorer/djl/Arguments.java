package streamscorer.djl;

import java.util.ArrayList;
import java.util.List;

/**
 * What the command and the Spark job are given: {@code MODEL SNAPSHOT --out PATH [--model-engine ENGINE]}, in
 * any order.
 */
record Arguments(String model, String snapshot, String out, EngineName engine) {
    static final String ENGINE = "--model-engine";
    private static final String OUT = "--out";

    /**
     * Reads them.
     *
     * @param usage the right ones, for the message
     * @throws BadInput where they are others
     */
    static Arguments parse(List<String> given, String usage) {
        List<String> paths = new ArrayList<>();
        String out = null;
        String engine = null;
        boolean right = true;
        for (int i = 0; i < given.size(); i++) {
            String argument = given.get(i);
            boolean hasValue = i + 1 < given.size();
            if (argument.equals(OUT) && hasValue && out == null) {
                out = given.get(++i);
            } else if (argument.equals(ENGINE) && hasValue && engine == null) {
                engine = given.get(++i);
            } else {
                right &= !argument.startsWith("--");
                paths.add(argument);
            }
        }
        if (!right || paths.size() != 2 || out == null) {
            throw new BadInput("arguments", String.join(" ", given), usage);
        }
        return new Arguments(paths.get(0), paths.get(1), out, engine == null ? EngineName.MXNET : EngineName.of(engine));
    }
}
